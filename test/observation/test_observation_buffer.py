"""What counts as fresh, and what is said of an input that is not."""

from __future__ import annotations

import threading

import pytest

from pi0_ttnn_ros.observation.buffer import HEARTBEAT, INSTRUCTION, JOINT_STATES, ObservationBuffer
from support.waiting import TIMEOUT, wait_until

SECOND = 10**9
NOW = 1_000 * SECOND


def filled(instruction="wave", sync_tolerance=1.0) -> ObservationBuffer:
    buffer = ObservationBuffer({"base": 0.5, JOINT_STATES: 0.2}, instruction, sync_tolerance, now_ns=NOW)
    buffer.put("base", NOW - 3, "image")
    buffer.put(JOINT_STATES, NOW - 7, "joints")
    return buffer


def test_snapshot_has_newest_inputs():
    """A snapshot has the newest message of each input."""
    buffer = filled()
    buffer.put("base", NOW - 1, "newer image")
    snapshot = buffer.snapshot(NOW)
    assert snapshot.images == {"base": "newer image"}
    assert (snapshot.joint_states, snapshot.instruction, snapshot.stamp_ns) == ("joints", "wave", NOW - 7)


def test_an_input_is_stale_after_its_own_timeout():
    buffer = filled()
    later = NOW + int(0.3 * SECOND)
    assert set(buffer.stale_inputs(later)) == {JOINT_STATES}
    assert "0.30 s old, the timeout is 0.2 s" in buffer.stale_inputs(later)[JOINT_STATES]
    assert buffer.snapshot(later) is None
    buffer.put(JOINT_STATES, later, "joints")
    assert buffer.snapshot(later).stamp_ns == later


def test_a_stamp_from_the_future_is_stale_too():
    buffer = filled()
    buffer.put("base", NOW + SECOND, "image")
    assert set(buffer.stale_inputs(NOW)) == {"base"}
    assert "its stamp is 1.00 s in the future" in buffer.stale_inputs(NOW)["base"]


def test_clock_mismatch():
    """A stamp of another clock is distinguished from a delay."""
    buffer = filled()
    buffer.put("base", 0, "image of a bag")
    assert "use_sim_time" in buffer.stale_inputs(NOW)["base"]


def test_missing_inputs_are_named():
    """Inputs of which nothing was received are named."""
    buffer = ObservationBuffer({"base": 0.5, JOINT_STATES: 0.2}, "  ", sync_tolerance=0.1, now_ns=NOW)
    assert buffer.stale_inputs(NOW) == {
        "base": "nothing received",
        JOINT_STATES: "nothing received",
        "instruction": "none given yet",
    }


def test_sync_tolerance():
    """Stamps that are too far apart give no snapshot, and are reported when it lasts."""
    buffer = filled(sync_tolerance=0.1)
    buffer.put("base", NOW - int(0.15 * SECOND), "image")
    assert buffer.snapshot(NOW) is None and not buffer.stale_inputs(NOW)
    assert buffer.sync_skew() == pytest.approx(0.15)
    assert not any(buffer.states(NOW).values())
    later = NOW + int(0.6 * SECOND)  # than the longest timeout after the last snapshot
    buffer.put("base", later - int(0.15 * SECOND), "image")
    buffer.put(JOINT_STATES, later, "joints")
    assert "base is 0.150 s behind the newest input" in buffer.states(later)["synchronisation"]
    buffer.put("base", later, "image")
    assert buffer.snapshot(later) is not None and not any(buffer.states(later).values())


def test_instruction_and_heartbeat_timeouts():
    """Instruction and heartbeat have timeouts where they are configured."""
    timeouts = {JOINT_STATES: 10.0, INSTRUCTION: 2.0, HEARTBEAT: 0.5}
    buffer = ObservationBuffer(timeouts, "wave", sync_tolerance=0.1, now_ns=NOW)
    buffer.put(JOINT_STATES, NOW, "joints")
    assert buffer.stale_inputs(NOW) == {HEARTBEAT: "nothing received"}
    buffer.put(HEARTBEAT, NOW, None)
    assert buffer.snapshot(NOW).images == {}
    assert set(buffer.stale_inputs(NOW + SECOND)) == {HEARTBEAT}
    assert set(buffer.stale_inputs(NOW + 3 * SECOND)) == {HEARTBEAT, INSTRUCTION}


def test_clock_reset_drops_old_messages():
    """After the clock jumped back only new messages count."""
    buffer = filled()
    earlier = NOW - 30 * SECOND
    assert set(buffer.stale_inputs(earlier)) == {"base", JOINT_STATES}
    buffer.put("base", earlier, "new image")
    buffer.put(JOINT_STATES, earlier, "new joints")
    assert buffer.snapshot(earlier).stamp_ns == earlier


def test_input_wakes_waiting_thread():
    """A thread that waits is woken by an input."""
    buffer = filled()
    waiting = threading.Thread(target=buffer.wait, args=[2 * TIMEOUT], daemon=True)
    waiting.start()
    wait_until(lambda: buffer.put("base", NOW, "image") or not waiting.is_alive(), "end of the thread")
    assert buffer.snapshot(NOW).images == {"base": "image"}
