"""A process whose output nobody reads continues; its last lines are not lost."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.pipes import read_until
from support.waiting import wait_until

LINES = 5000
RELAY = "from pi0_ttnn_ros.system.output_relay import relay_output; relay_output()\n"
MANY_LINES = f"""{RELAY}
import pathlib, sys
for number in range({LINES}):
    print("line", number)
sys.stdout.flush()
pathlib.Path(sys.argv[1]).write_text("all written")
input()
print("the last line")
"""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_nobody_reads(pipe, tmp_path: Path):
    """The newest lines are kept, the others dropped and counted, and the writer does not wait."""
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    report = tmp_path / "report"
    process = subprocess.Popen([sys.executable, "-c", MANY_LINES, report], stdin=subprocess.PIPE, stdout=writer)
    wait_until(lambda: report.exists() and report.read_text(), "the end of writing")
    received = read_until(reader, f"line {LINES - 1}\n".encode())
    process.communicate(b"\n")
    received += read_until(reader, b"the last line\n")
    numbers = [int(number) for number in re.findall(rb"line (\d+)\n", received)]
    dropped = [int(number) for number in re.findall(rb"\[(\d+) lines were dropped", received)]
    assert dropped and numbers == sorted(set(numbers)) and len(numbers) + sum(dropped) == LINES
    assert process.returncode == 0


@pytest.mark.parametrize("program", ["raise KeyError('injected')", "import os; os.write(2, b'injected'); os._exit(1)"])
def test_last_words(pipe, program):
    """A traceback arrives, and what a process wrote that ended at once."""
    reader, writer = pipe
    process = subprocess.run([sys.executable, "-c", RELAY + program], stdout=writer, stderr=writer)
    assert process.returncode == 1
    read_until(reader, b"injected")


def test_output_files_are_kept(tmp_path: Path):
    """Files do not block, and need no relay."""
    file = tmp_path / "output"
    with file.open("wb") as output:
        program = RELAY + "import os, sys; print(os.fstat(1).st_ino == os.stat(sys.argv[1]).st_ino)"
        subprocess.run([sys.executable, "-c", program, file], stdout=output, check=True)
    assert file.read_text() == "True\n"
