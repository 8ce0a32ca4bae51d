"""The output of ttnn while it loads and compiles goes to a log file, whose name is reported."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from pi0_ttnn_core import ttnn_output

PROGRAM = """
import logging, os, subprocess, sys, time
from pi0_ttnn_core import ttnn_output
ttnn_output.PERIOD = 0.05
print("result before")
with ttnn_output.ttnn_output_logged("compiling"):
    subprocess.run(["sh", "-c", "echo the compiler; echo its warning >&2"], check=True)
    os.write(1, b"the library")
    logging.getLogger("core").warning("a warning for the user")
    deadline = time.monotonic() + 300
    while not progressed() and time.monotonic() < deadline:
        time.sleep(0.01)
print("result after")
os.write(2, b"error after")
"""


@pytest.fixture
def run(tmp_path):
    """Run a program with its caches in a folder of its own; stderr goes to a file, which `progressed` looks into."""

    def run(program: str) -> tuple[str, str, str]:
        progressed = f"def progressed(): return ' s so far' in open({str(tmp_path / 'err')!r}).read()\n"
        environment = {**os.environ, "PI0_TTNN_CACHE": str(tmp_path / "cache")}
        with (tmp_path / "err").open("w") as err:
            done = subprocess.run(
                [sys.executable, "-c", progressed + program],
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                check=False,
                env=environment,
            )
        return done.stdout, (tmp_path / "err").read_text(), (tmp_path / "cache/ttnn.log").read_text()

    return run


def test_compiler_output_goes_to_the_log(run, tmp_path):
    out, err, log = run(PROGRAM)
    assert log == "the compiler\nits warning\nthe library"
    assert out == "result before\nresult after\n"
    first, *progress, warning_and_end = err.splitlines()
    assert first == f"compiling; the output of ttnn goes to {tmp_path}/cache/ttnn.log"
    assert warning_and_end == "error after"
    assert "a warning for the user" in progress
    assert any(re.search(r"compiling, \d+ s so far", line) for line in progress)


def test_the_streams_are_restored_after_an_error(run):
    out, err, log = run(
        "import os\nfrom pi0_ttnn_core import ttnn_output\n"
        "try:\n"
        "    with ttnn_output.ttnn_output_logged('loading'):\n"
        "        os.write(2, b'reason')\n"
        "        raise RuntimeError\n"
        "except RuntimeError:\n"
        "    os.write(1, b'caught')\n"
    )
    assert (out, log) == ("caught", "reason")
    assert len(err.splitlines()) == 1


def test_a_later_log_replaces_an_earlier_one(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PI0_TTNN_CACHE", str(tmp_path))
    for text in (b"a long first output", b"second"):
        with ttnn_output.ttnn_output_logged("loading"):
            os.write(1, text)
    assert ttnn_output.ttnn_log().read_bytes() == b"second"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "TT_FATAL @ a.cpp:514: false\ninfo:\nOut of Memory:\n  too large\nbacktrace:\n --- a.so",
            "Out of Memory: too large",
        ),
        ("TT_THROW @ a.cpp:5: error\ninfo:\nTIMEOUT: device timeout", "TIMEOUT: device timeout"),
        ("Chip 5 not found.\nLocation: /a.cpp:1\n 1. main()", "Chip 5 not found."),
        ("", "RuntimeError"),
    ],
)
def test_error_reason(text, reason):
    """Of an error's text, what explains it is kept; a real error is in test/mock."""
    assert ttnn_output.error_reason(RuntimeError(text)) == reason
