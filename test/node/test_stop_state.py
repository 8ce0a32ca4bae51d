"""What stops the node and what keeps a motion from resuming, step by step."""

from __future__ import annotations

import pytest

from pi0_ttnn_ros.node.restart import RestartGuard
from pi0_ttnn_ros.node.stop import NOT_STOPPED, StopState


def started(file) -> StopState:
    """Return the state of a node that starts with this file."""
    state = StopState()
    state.keep_in(file)
    return state


def test_stop_outlives_the_node(tmp_path):
    """A stop is there again when the node starts again, as often as it starts, until it is reset."""
    file = tmp_path / "folder" / "robot.stop"
    state = started(file)
    assert not state.reason
    state.stop("stopped by ~/stop")
    state.keep()
    assert state.reason == "stopped by ~/stop, until ~/reset"
    for _ in range(2):
        state = started(file)
        assert state.reason.startswith("stopped by ~/stop, until ~/reset (before the node started")
    assert not state.reset() and not state.reason
    assert not started(file).reason
    assert [path.name for path in file.parent.iterdir()] == ["robot.stop"]


@pytest.mark.parametrize("content", [b"", b"\xff\x00\xfe", NOT_STOPPED[:-3].encode()], ids=["empty", "bytes", "cut"])
def test_damaged_file_stops(tmp_path, content):
    """A file that does not say in so many words that the node is not stopped stops it."""
    file = tmp_path / "robot.stop"
    file.write_bytes(content)
    state = started(file)
    assert str(file) in state.reason
    assert not state.reset() and not started(file).reason


def test_file_that_cannot_be_used_stops(tmp_path):
    """A state that can be neither read nor written stops the node, until it can be written."""
    file = tmp_path / "robot.stop"
    file.mkdir()
    state = started(file)
    assert "cannot be kept over a restart" in state.reason and str(file) in state.reason
    assert str(file) in state.reset() and state.reason
    file.rmdir()
    assert not state.reset() and not state.reason


def test_folder_that_cannot_be_made_stops(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be kept over a restart" in started(tmp_path / "file" / "robot.stop").reason


def test_stop_that_cannot_be_kept_stops(tmp_path):
    """A stop that cannot be written is one all the same, and says so."""
    file = tmp_path / "robot.stop"
    state = started(file)
    file.unlink()
    file.mkdir()
    state.stop("stopped by ~/stop")
    state.keep()
    assert "stopped by ~/stop" in state.reason and "not kept over a restart" in state.reason


def test_emergency_stop():
    """Only ~/reset clears an emergency stop, and only one that is released."""
    state = StopState()
    assert not state.on_emergency_stop(False) and not state.reason
    assert state.on_emergency_stop(True) and "pressed" in state.reason
    assert not state.on_emergency_stop(True)
    assert "pressed" in state.reset() and state.reason
    assert state.on_emergency_stop(False) and "released" in state.reason
    assert not state.reset() and not state.reason


CAMERA = {"camera": "0.60 s old, the timeout is 0.5 s"}
WAITING = {"instruction": "none given yet"}


@pytest.fixture
def guard():
    """A guard of a robot that has moved, until second 1."""
    guard = RestartGuard(manual=True)
    guard.start()
    guard.observe(WAITING, [], 0.0)
    guard.observe({}, [], 1.0)
    return guard


def test_automatic_restart():
    guard = RestartGuard(manual=False)
    guard.start()
    guard.observe({}, [], 0.0)
    for now in range(100):
        guard.observe(CAMERA, ["no controller"], float(now))
    guard.hold("an inference failed")
    assert not guard.reason


def test_ordinary_gap_needs_no_reset(guard):
    """Gaps shorter than a second, however many, need no reset; one of a second does."""
    for start in (2.0, 4.0, 6.0):
        guard.observe(CAMERA, [], start)
        guard.observe(CAMERA, [], start + 0.99)
        guard.observe({}, [], start + 1.0)
    assert not guard.reason
    guard.observe(CAMERA, [], 8.0)
    guard.observe(CAMERA, [], 9.0)
    guard.observe({}, [], 9.5)
    assert guard.reason == "camera: 0.60 s old, the timeout is 0.5 s"


def test_fault_needs_reset(guard):
    """A fault needs a reset, however short it is; the first one is named."""
    guard.observe({}, ["no controller"], 2.0)
    guard.observe({}, ["no power"], 2.01)
    assert guard.reason == "no controller"
    guard.reset()
    assert not guard.reason
    guard.hold("an inference failed")
    assert guard.reason == "an inference failed"
    guard.start()  # enabled again, or activated
    assert guard.reason == "an inference failed"


def test_fault_that_outlasts_the_reset(guard):
    """A reset does not let the motion start later, when the fault ends."""
    guard.observe({}, ["no controller"], 2.0)
    guard.reset()
    guard.observe({}, ["no controller"], 2.1)
    guard.observe({}, ["no controller"], 3.1)
    assert guard.reason == "no controller"


def test_first_instruction_needs_no_reset():
    """Before the first motion the robot waits for an instruction as long as it takes; later ones are holds."""
    guard = RestartGuard(manual=True)
    guard.start()
    for now in range(100):
        guard.observe(WAITING, [], float(now))
    assert not guard.reason
    guard.observe({}, [], 100.0)
    guard.observe({"instruction": "4.0 s old, the timeout is 3 s"}, [], 101.0)
    guard.observe({"instruction": "5.0 s old, the timeout is 3 s"}, [], 102.0)
    assert guard.reason.startswith("instruction: ")
