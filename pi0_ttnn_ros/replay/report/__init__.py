"""The report on a replay: episode -> metrics (sums) -> summary -> verdict -> report.json and report.html."""
