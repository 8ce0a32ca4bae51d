"""The node's state as messages: PolicyStatus and diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from pi0_ttnn_ros.msg import PolicyStatus
from pi0_ttnn_ros.node.policy_session import PolicySession
from pi0_ttnn_ros.rclpy_utils.logs import without_numbers
from pi0_ttnn_ros.rclpy_utils.messages import time_message

INSTRUCTION_LENGTH = 200  # characters of it in the status
# Words for the log and the diagnostics.
ACTIVITIES = {
    PolicyStatus.IDLE: "idle",
    PolicyStatus.STOPPED: "stopped",
    PolicyStatus.DISABLED: "disabled",
    PolicyStatus.HOLDING: "holding",
    PolicyStatus.MOVING: "moving",
    PolicyStatus.NEEDS_RESET: "waiting for ~/reset",
}


def policy_status(session: PolicySession, now_ns: int) -> PolicyStatus:
    """Return the status of a session; `lifecycle_state`, `activity` and `reason` are the node's to fill in."""
    parameters, buffer = session.parameters, session.inputs.buffer
    p50, p95, maximum = session.statistics.percentiles()
    status = PolicyStatus(
        dry_run=parameters.dry_run,
        strategy=parameters.strategy,
        speed_scaling=parameters.speed_scaling,
        backend=session.policy.backend,
        device=session.policy.device,
        restarts=session.restarts,
        checkpoint=parameters.checkpoint,
        instruction=buffer.instruction[:INSTRUCTION_LENGTH],
        inference_rate=session.statistics.rate(now_ns),
        latency_p50=p50,
        latency_p95=p95,
        latency_max=maximum,
        sync_skew=buffer.sync_skew(),
        stale_inputs=sorted(name for name, reason in session.input_states().items() if reason),
        last_error=session.last_error or session.controller_error,
    )
    status.header.stamp = time_message(now_ns)
    return status


def changed(before: PolicyStatus, after: PolicyStatus) -> bool:
    """Return whether the activity or its reason changed, apart from the numbers in the reason."""
    return before.activity != after.activity or without_numbers(before.reason) != without_numbers(after.reason)


def diagnostics(
    status: PolicyStatus,
    node_name: str,
    input_states: Mapping[str, str],
    hold_reasons: Sequence[str],
    card: Mapping[str, float],
) -> DiagnosticArray:
    """Return one entry for inference and one for each input (REP 107).

    Args:
        status: status to report.
        node_name: name of the node.
        input_states: why each input cannot be used, by its name; empty for one that can.
        hold_reasons: why the robot may not move, see `PolicySession.hold_reasons`.
        card: readings of the card's sensors, see `card_readings`.
    """
    active = status.lifecycle_state == "active"
    level, message = DiagnosticStatus.OK, f"{status.lifecycle_state}, {ACTIVITIES[status.activity]}: {status.reason}"
    if status.last_error:
        level, message = DiagnosticStatus.ERROR, status.last_error
    elif active and hold_reasons:
        level = DiagnosticStatus.WARN
    values = {
        "backend": status.backend,
        "device": status.device,
        "checkpoint": status.checkpoint,
        "instruction": status.instruction,
        "strategy": status.strategy,
        "inference rate (Hz)": f"{status.inference_rate:.1f}",
        "latency p50 (s)": f"{status.latency_p50:.4f}",
        "latency p95 (s)": f"{status.latency_p95:.4f}",
        "latency max (s)": f"{status.latency_max:.4f}",
        "sync skew (s)": f"{status.sync_skew:.4f}",
        "policy restarts": str(status.restarts),
    }
    values |= {name: f"{value:.4g}" for name, value in card.items()}
    array = DiagnosticArray()
    array.header.stamp = status.header.stamp
    array.status = [_entry(f"{node_name}: inference", status.device, level, message, values)]
    stale = DiagnosticStatus.STALE if active else DiagnosticStatus.OK
    array.status += [
        _entry(f"{node_name}: {name}", "", stale if reason else DiagnosticStatus.OK, reason or "fresh", {})
        for name, reason in sorted(input_states.items())
    ]
    return array


def _entry(name: str, hardware_id: str, level: bytes, message: str, values: dict[str, str]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(name=name, hardware_id=hardware_id, level=level, message=message, values=pairs)
