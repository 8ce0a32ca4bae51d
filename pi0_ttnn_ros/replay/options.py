"""What a user asks of a replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODES = OPEN_LOOP, LIVE = "open-loop", "live"
# The recorded motion that predictions are compared with.
GROUND_TRUTHS = MEASURED, COMMANDED = "joint_states", "commands"
# The reference that is not a backend: the chunks that a node recorded.
RECORDED = "recorded"


@dataclass(frozen=True)
class Options:
    """How to replay bags.

    Attributes:
        robot: the robot's parameter file.
        overrides: parameters that take precedence over the file's.
        namespace: of the node and its topics.
        ground_truth: one of GROUND_TRUTHS.
        reference: another backend that infers from the same noise, or RECORDED; "" for no reference.
        stride: infer at every stride-th inference point.
        mode: one of MODES.
        jobs: bags replayed at a time, each in its own process.
        out: folder for the predictions and the report.
    """

    robot: Path
    overrides: dict[str, Any] = field(hash=False)
    namespace: str
    ground_truth: str
    reference: str
    stride: int
    mode: str
    jobs: int
    out: Path

    @property
    def reference_backend(self) -> str:
        """The backend that infers beside the first one; "" for none."""
        return self.reference if self.reference != RECORDED else ""
