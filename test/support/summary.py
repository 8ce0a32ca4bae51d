"""One summary of several pytest processes: what failed, what was skipped, and how to run that.

As a plugin (`-p support.summary --summary FILE`) this keeps the outcome of one process in a file; as a program
(`python -m support.summary FILE...`) it prints the outcome of all.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

_slow = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the file."""
    parser.addoption("--summary", type=Path, required=True, help="file for the outcome of this process")


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the slow tests that nobody asked for."""
    for item in items:
        slow = item.get_closest_marker("slow") is not None
        item.config.stash[_slow] = item.config.stash.get(_slow, 0) + slow


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write the outcome to the file."""
    stats = terminalreporter.stats
    failed = [report.nodeid for kind in ("failed", "error") for report in stats.get(kind, [])]
    outcome = {
        "passed": len(stats.get("passed", [])),
        "failed": list(dict.fromkeys(failed)),
        "skipped": Counter(_reason(report) for report in stats.get("skipped", [])),
        "slow": config.stash.get(_slow, 0),
    }
    config.getoption("--summary").write_text(json.dumps(outcome))


def _reason(report: pytest.TestReport) -> str:
    assert isinstance(report.longrepr, tuple)
    return report.longrepr[2].removeprefix("Skipped: ")


def main() -> None:
    """Print failed tests, one line on what was skipped and how to run it, and the counts."""
    passed, slow, failed, skipped = 0, 0, [], Counter[str]()
    for file in map(Path, sys.argv[1:]):
        if not file.exists():
            failed.append(f"{file.stem}: pytest ended without a summary, see its output above")
            continue
        outcome = json.loads(file.read_text())
        passed += outcome["passed"]
        slow += outcome["slow"]
        failed += outcome["failed"]
        skipped.update(outcome["skipped"])
    for name in failed:
        print(f"failed: {name}")
    reasons = [f"{count}: {reason}" for reason, count in skipped.most_common()]
    reasons += [f"{slow} slow: scripts/test -m slow"] if slow else []
    print(f"skipped: {'; '.join(reasons) or 'nothing'}")
    print(f"{passed} passed, {len(failed)} failed, {skipped.total() + slow} skipped")


if __name__ == "__main__":
    main()
