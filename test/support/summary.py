"""One summary of several pytest processes: what failed, which tests were skipped, and how to run them.

As a plugin (`-p support.summary --summary FILE`) this keeps the outcome of one process in a file; as a program
(`python -m support.summary FILE...`) it prints the outcome of all.
"""

from __future__ import annotations

import json
import sys
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
        "skipped": _skipped(stats.get("skipped", [])),
        "slow": config.stash.get(_slow, 0),
    }
    config.getoption("--summary").write_text(json.dumps(outcome))


def _skipped(reports: list[pytest.TestReport | pytest.CollectReport]) -> dict[str, list[str]]:
    """Return the folders of the skipped tests, one entry for each test or module, by the reason."""
    folders: dict[str, list[str]] = {}
    for report in reports:
        assert isinstance(report.longrepr, tuple)
        reason = report.longrepr[2].removeprefix("Skipped: ")
        folders.setdefault(reason, []).append(str(Path(report.nodeid.split("::")[0]).parent))
    return folders


def main() -> None:
    """Print failed tests, one line on which tests were skipped and how to run them, and the counts."""
    passed, slow, failed = 0, 0, []
    skipped: dict[str, list[str]] = {}
    for file in map(Path, sys.argv[1:]):
        if not file.exists():
            failed.append(f"{file.stem}: pytest ended without a summary, see its output above")
            continue
        outcome = json.loads(file.read_text())
        passed += outcome["passed"]
        slow += outcome["slow"]
        failed += outcome["failed"]
        for reason, folders in outcome["skipped"].items():
            skipped[reason] = skipped.get(reason, []) + folders
    for name in failed:
        print(f"failed: {name}")
    reasons = [f"{len(names)} of {', '.join(sorted(set(names)))}: {reason}" for reason, names in skipped.items()]
    reasons += [f"{slow} slow: scripts/test -m slow"] if slow else []
    print(f"skipped: {'; '.join(reasons) or 'nothing'}")
    print(f"{passed} passed, {len(failed)} failed, {sum(map(len, skipped.values())) + slow} skipped")


if __name__ == "__main__":
    main()
