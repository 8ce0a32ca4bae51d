"""A bag's messages as the node would receive them, and the observations it would infer from.

The bag's receive time is the node's clock. The node's own code decides which inputs make an observation and when an
inference is due.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from pi0_ttnn_ros.bags.reader import Bag, BagMessage
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.observation.buffer import HEARTBEAT, INSTRUCTION, JOINT_STATES, ObservationBuffer, Snapshot, is_due
from pi0_ttnn_ros.observation.decoding import positions_from_message
from pi0_ttnn_ros.observation.images import ConversionError, SerializedImage
from pi0_ttnn_ros.observation.stamps import nanoseconds
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.topics import COMMANDS, JOINT_STATE, STRING, Topics, image_message_type, is_compressed
from pi0_ttnn_ros.replay.episode import Frames, Recording
from pi0_ttnn_ros.replay.options import MEASURED
from pi0_ttnn_ros.replay.topic_check import check_topic

# Images were dropped in an interval that is longer than this many median ones.
DROPPED = 1.5


class BagFeed:
    """Feeds one bag to an observation buffer, and keeps the recorded motion.

    Attributes:
        unusable: number of joint states without an observation, by reason; of the messages read so far.
        joint_states: number of joint states read so far.
    """

    def __init__(self, bag: Bag, topics: Topics, parameters: Parameters) -> None:
        """Check that the bag has what the node needs.

        Raises:
            BagError: a topic is missing, empty or of another type, or there is no instruction.
        """
        _check_topics(bag, topics, parameters)
        self._bag = bag
        self._parameters = parameters
        self._topics = topics
        self._inputs = {topic: camera for camera, topic in topics.cameras.items()}
        self._inputs |= {
            topics.joint_states: JOINT_STATES,
            topics.instruction: INSTRUCTION,
            topics.heartbeat: HEARTBEAT,
        }
        self._commands = {
            topic: [parameters.joint_names.index(joint) for joint in parameters.controllers[name].joints]
            for name, topic in topics.controllers.items()
            if parameters.controllers[name].type in COMMANDS
        }
        self._buffer = ObservationBuffer(
            parameters.input_timeouts, parameters.instruction, parameters.sync_tolerance, bag.start_ns
        )
        self._image_stamps_ns: dict[str, list[int]] = {camera: [] for camera in topics.cameras}
        self._states: list[tuple[int, np.ndarray]] = []
        self._commanded: list[list[tuple[int, float]]] = [[] for _ in parameters.joint_names]
        self._reasons: list[str] = []
        self.unusable: Counter[str] = Counter()
        self.joint_states = 0

    def snapshots(self) -> Iterator[tuple[int, Snapshot]]:
        """Yield what the node would infer from, each with its receive time (ns). Images are not decoded."""
        last_stamp_ns: int | None = None
        topics = [*self._inputs, *self._commands]
        for message in self._bag.messages([topic for topic in topics if topic in self._bag.topics]):
            try:
                self._receive(message)
            except BagError:  # reported in the bag's problems
                continue
            snapshot = self._buffer.snapshot(message.time_ns) if message.topic in self._inputs else None
            if snapshot is None:
                continue
            self._reasons = []
            if is_due(snapshot.stamp_ns, last_stamp_ns, self._parameters.inference_rate):
                last_stamp_ns = snapshot.stamp_ns
                yield message.time_ns, snapshot
        self._count_reasons()

    def frames(self) -> dict[str, Frames]:
        """Return the regularity of the images read so far, by camera."""
        return {camera: _frames(np.array(stamps_ns)) for camera, stamps_ns in self._image_stamps_ns.items()}

    def recording(self, ground_truth: str) -> Recording:
        """Return the motion read so far; `ground_truth` says which, see `options.GROUND_TRUTHS`.

        Raises:
            BagError: there is none.
        """
        if ground_truth == MEASURED:
            return self._measured()
        silent = [self._parameters.joint_names[joint] for joint, points in enumerate(self._commanded) if not points]
        if silent:
            raise BagError(
                f"{self._bag.path}: no command for {silent} was recorded on {list(self._commands)}: compare with "
                f"joint_states"
            )
        return self._commanded_motion()

    def _receive(self, message: BagMessage) -> None:
        """Take one message; images are not decoded.

        Raises:
            BagError: it cannot be decoded.
        """
        if message.topic in self._commands:
            self._take_command(self._commands[message.topic], message.time_ns, message.decode())
        name = self._inputs.get(message.topic)
        if name == INSTRUCTION:
            self._buffer.put(name, message.time_ns, message.decode().data)
        elif name == HEARTBEAT:
            self._buffer.put(name, message.time_ns, message)
        elif name == JOINT_STATES:
            self._take_joint_states(message.time_ns, message.decode())
        elif name is not None and message.stamp_ns is not None:
            self._buffer.put(name, message.stamp_ns, SerializedImage(message.raw, is_compressed(message.topic)))
            self._image_stamps_ns[name].append(message.stamp_ns)

    def _take_joint_states(self, time_ns: int, message: Any) -> None:
        self._count_reasons()
        stamp_ns = nanoseconds(message.header.stamp)
        self._buffer.put(JOINT_STATES, stamp_ns, message)
        self.joint_states += 1
        # These hold unless an observation is made of these joint states before the next are received.
        self._reasons = [f"{name}: missing or too old" for name in self._buffer.stale_inputs(time_ns)] or [
            "synchronisation: stamps further apart than sync_tolerance"
        ]
        try:
            positions = positions_from_message(message, self._parameters.joint_names)
        except ConversionError as error:
            self._leave_out(self._topics.joint_states, str(error))
            return
        if self._states and stamp_ns <= self._states[-1][0]:
            self._leave_out(self._topics.joint_states, "stamps that do not increase")
        elif not np.isfinite(positions).all():
            self._leave_out(self._topics.joint_states, "positions that are not finite")
        else:
            self._states.append((stamp_ns, positions))

    def _take_command(self, joints: list[int], time_ns: int, message: Any) -> None:
        names = self._parameters.joint_names
        if hasattr(message, "points"):
            if not message.points:
                return
            point = message.points[0]
            start_ns = nanoseconds(message.header.stamp) or time_ns
            time_ns = start_ns + nanoseconds(point.time_from_start)
            positions = dict(zip(message.joint_names, point.positions, strict=False))
        else:
            positions = dict(zip((names[joint] for joint in joints), message.data, strict=False))
        for joint in joints:
            points = self._commanded[joint]
            if names[joint] in positions and (not points or time_ns > points[-1][0]):
                points.append((time_ns, positions[names[joint]]))

    def _count_reasons(self) -> None:
        self.unusable.update(self._reasons)
        self._reasons = []

    def _leave_out(self, topic: str, reason: str) -> None:
        text = f"{self._bag.path}: {topic}: joint states left out of the comparison: {reason}"
        if text not in self._bag.problems:
            self._bag.problems.append(text)

    def _measured(self) -> Recording:
        if not self._states:
            raise BagError(f"{self._bag.path}: no usable joint states on {self._topics.joint_states}")
        times_ns, positions = zip(*self._states, strict=True)
        return Recording(np.array(times_ns), np.array(positions, np.float64))

    def _commanded_motion(self) -> Recording:
        """Return the commands of all controllers at the times at which any was given."""
        series = [np.array(points).T for points in self._commanded]
        first_ns, last_ns = max(times_ns[0] for times_ns, _ in series), min(times_ns[-1] for times_ns, _ in series)
        times_ns = np.unique(np.concatenate([times_ns for times_ns, _ in series]))
        times_ns = times_ns[(times_ns >= first_ns) & (times_ns <= last_ns)]
        positions = np.stack([np.interp(times_ns, known_ns, values) for known_ns, values in series], axis=1)
        return Recording(times_ns.astype(np.int64), positions)


def _check_topics(bag: Bag, topics: Topics, parameters: Parameters) -> None:
    """Raise a BagError that names everything without which the node could never make an observation."""
    needed = {topic: image_message_type(topic) for topic in topics.cameras.values()} | {
        topics.joint_states: JOINT_STATE
    }
    problems = {topic: check_topic(bag, topic, type_name) for topic, type_name in needed.items()}
    lines = [f"{topic} {problem.text}: {problem.remedy}" for topic, problem in problems.items() if problem]
    if lines:
        raise BagError(f"{bag.path}: {'; '.join(lines)}")
    if not parameters.instruction.strip() and check_topic(bag, topics.instruction, STRING):
        raise BagError(f"{bag.path}: no instruction on {topics.instruction}: give one with --instruction")


def _frames(stamps_ns: np.ndarray) -> Frames:
    intervals = np.diff(np.sort(stamps_ns)) * 1e-9
    usual = np.median(intervals) if len(intervals) else 0.0
    lost = np.round(intervals / usual) - 1 if usual > 0 else np.zeros(0)
    dropped = int(lost[intervals > DROPPED * usual].sum()) if usual > 0 else 0
    return Frames(len(stamps_ns), dropped, float(intervals.max(initial=0.0)))
