"""What ttnn says: its output and its compiler's go to a log file, and its errors are cut to what explains them.

This module does not import ttnn.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pi0_ttnn_core.wormhole import cache_root

PERIOD = 10.0  # seconds between two lines of progress


def ttnn_log() -> Path:
    """Return the file that holds the output of the last load or compilation."""
    return cache_root() / "ttnn.log"


def error_reason(error: Exception) -> str:
    """Return in one line what explains an error of ttnn.

    Its text is a line of the source, `info:` and the explanation, then `backtrace:`; some have only one of these.
    """
    text = str(error).strip() or type(error).__name__
    explanation = re.search(r"^info:\n(.+?)(?:\nbacktrace:|\Z)", text, re.MULTILINE | re.DOTALL)
    return " ".join((explanation[1] if explanation else text.splitlines()[0]).split())


def is_hang(error: Exception) -> bool:
    """Return whether ttnn's operation timeout raised this error, after which the device can only be closed."""
    return "TIMEOUT: device timeout" in str(error)


@contextmanager
def ttnn_output_logged(activity: str) -> Iterator[None]:
    """Redirect stdout and stderr to `ttnn_log` for a while; report `activity`, the log and progress on stderr.

    The first compilation of a model's kernels prints over a thousand lines, from subprocesses; therefore the file
    descriptors are redirected. Python's `sys.stdout` and `sys.stderr` still write to where they did before.
    """
    log = ttnn_log()
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    python_streams = sys.stdout, sys.stderr
    with os.fdopen(os.dup(1), "w") as stdout, os.fdopen(os.dup(2), "w", buffering=1) as stderr:
        finished = threading.Event()
        progress = threading.Thread(target=_report_progress, args=(activity, log, stderr, finished), daemon=True)
        log.write_bytes(b"")
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = stdout, stderr
        progress.start()
        try:
            yield
        finally:
            finished.set()
            progress.join()
            stdout.flush()
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr.fileno(), 2)
            sys.stdout, sys.stderr = python_streams


def _report_progress(activity: str, log: Path, stderr: TextIO, finished: threading.Event) -> None:
    print(f"{activity}; the output of ttnn goes to {log}", file=stderr)
    start = time.monotonic()
    while not finished.wait(PERIOD):
        print(f"{activity}, {time.monotonic() - start:.0f} s so far", file=stderr)
