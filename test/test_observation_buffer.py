"""What counts as fresh, and what is said of an input that is not."""

from __future__ import annotations

import threading

from pi0_ttnn_ros.observation_buffer import JOINT_STATES, ObservationBuffer

SECOND = 10**9
NOW = 1_000 * SECOND


def filled(instruction="wave") -> ObservationBuffer:
    buffer = ObservationBuffer({"base": 0.5, JOINT_STATES: 0.2}, instruction)
    buffer.put("base", NOW - 3, "image")
    buffer.put(JOINT_STATES, NOW - 7, "joints")
    return buffer


def test_a_snapshot_holds_the_newest_of_every_input():
    buffer = filled()
    buffer.put("base", NOW - 1, "newer image")
    snapshot = buffer.snapshot(NOW)
    assert snapshot.images == {"base": "newer image"}
    assert (snapshot.joint_states, snapshot.instruction, snapshot.stamp) == ("joints", "wave", NOW - 7)


def test_an_input_is_stale_after_its_own_timeout():
    buffer = filled()
    later = NOW + int(0.3 * SECOND)
    assert set(buffer.stale_inputs(later)) == {JOINT_STATES}
    assert "0.30 s old, allowed are 0.2 s" in buffer.stale_inputs(later)[JOINT_STATES]
    assert buffer.snapshot(later) is None
    buffer.put(JOINT_STATES, later, "joints")
    assert buffer.snapshot(later).stamp == later


def test_a_stamp_from_the_future_is_stale_too():
    buffer = filled()
    buffer.put("base", NOW + SECOND, "image")
    assert set(buffer.stale_inputs(NOW)) == {"base"}


def test_a_foreign_clock_is_told_from_a_delay():
    buffer = filled()
    buffer.put("base", 0, "image of a bag")
    assert "use_sim_time" in buffer.stale_inputs(NOW)["base"]


def test_what_never_came_is_named():
    buffer = ObservationBuffer({"base": 0.5, JOINT_STATES: 0.2}, "  ")
    assert buffer.stale_inputs(NOW) == {
        "base": "nothing received",
        JOINT_STATES: "nothing received",
        "instruction": "none given yet",
    }


def test_whoever_waits_is_woken_by_an_input():
    buffer = filled()
    threading.Timer(0.05, lambda: buffer.put("base", NOW, "image")).start()
    buffer.wait(timeout=30)  # returns at once after the input, or the test's own time runs out
    assert buffer.snapshot(NOW).images == {"base": "image"}
