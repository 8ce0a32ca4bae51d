"""Whether a bag fits a robot's parameters: topics, types, contents, rates and clocks. Knows nothing of ROS."""

from __future__ import annotations

import io
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import PIL.Image

from pi0_ttnn_ros.bags.reader import Bag
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.observation.buffer import CLOCK_MISMATCH_S
from pi0_ttnn_ros.observation.decoding import ENCODINGS, ConversionError, positions_from_message
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.topics import COMMANDS, JOINT_STATE, STRING, Topics, image_message_type, topics_of
from pi0_ttnn_ros.replay.feed import BagFeed

ERROR, WARNING = "error", "warning"
# A clock that is ahead by less does no harm.
AHEAD = 0.005  # s
# Of the joint states; more of them without an observation are worth a warning.
WITHOUT_OBSERVATION = 0.05


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: a ERROR, with which the bag cannot be replayed, or a WARNING."""

    severity: str
    topic: str
    text: str
    remedy: str

    @property
    def is_error(self) -> bool:
        """Whether the bag cannot be replayed with it."""
        return self.severity == ERROR


@dataclass(frozen=True)
class Input:
    """One topic that the robot's parameters name, as it is in the bag.

    use: the camera's name, "joint states", "instruction" or "command"
    type: in the bag; empty where the topic is missing
    rate: messages received per second, 0 for fewer than two
    longest_gap: s, between two receipts
    delay: s, from header stamp to receipt: smallest, median and largest; None where the type has no header
    content: in words: size and encoding of images, number of joints, the instruction
    """

    use: str
    topic: str
    type: str
    count: int
    rate: float
    longest_gap: float
    delay: tuple[float, float, float] | None
    content: str


@dataclass(frozen=True)
class BagCheck:
    """A bag held against a robot.

    duration: s
    skew: s, between the stamps of the newest images and joint states at each joint state: median and largest; None
        where an input is missing
    observations: how many inferences the node would have made
    unusable: at how many joint states there was no observation, by the reason
    """

    duration: float
    inputs: list[Input]
    skew: tuple[float, float] | None
    observations: int
    unusable: dict[str, int]
    findings: list[Finding]

    @property
    def is_usable(self) -> bool:
        """Whether the bag can be replayed."""
        return not any(finding.is_error for finding in self.findings)


@dataclass(frozen=True)
class _Expected:
    """A topic as the parameters have it. `timeout` is in seconds, 0 for none; `look` says what is in a message.

    look: returns it in words, or raises ConversionError where the node cannot use it
    remedy: where it cannot
    """

    use: str
    type: str
    severity: str
    timeout: float
    look: Callable[[Any], str]
    remedy: str = ""


@dataclass
class _Stream:
    """What was read of one topic; times in nanoseconds."""

    times_ns: array[int] = field(default_factory=lambda: array("q"))
    stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    contents: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def delays(self) -> np.ndarray:
        """Return the seconds from stamp to receipt; empty without stamps."""
        return (
            (np.array(self.times_ns, np.int64) - np.array(self.stamps_ns, np.int64)) * 1e-9
            if self.stamps_ns
            else np.empty(0)
        )

    def gaps(self) -> np.ndarray:
        """Return the seconds between receipts."""
        return np.diff(np.array(self.times_ns, np.int64)) * 1e-9


def check_bag(bag: Bag, parameters: Parameters, namespace: str = "") -> BagCheck:
    """Read the bag, twice where it has all that the node needs, and return how it fits."""
    topics = topics_of(parameters, namespace)
    expected = _expected(topics, parameters)
    findings = [finding for topic in expected for finding in _presence(bag, topic, expected[topic])]
    readable = [
        topic
        for topic, wanted in expected.items()
        if topic in bag.topics and bag.topics[topic].type == wanted.type and bag.topics[topic].count
    ]
    streams, skews = _read(bag, topics, {topic: expected[topic] for topic in readable})
    findings += _instruction(topics, parameters, streams)
    for topic, stream in streams.items():
        findings += _faults(topic, stream, expected[topic])
        findings += _timing(topic, stream, expected[topic])
    findings += _rate(topics, parameters, streams)
    observations, unusable = 0, dict[str, int]()
    if not any(finding.is_error and finding.topic != topics.instruction for finding in findings):
        observations, unusable = _observations(bag, topics, parameters)
        findings += _synchronisation(observations, unusable, skews, parameters)
    findings += [Finding(WARNING, "", line, "") for line in bag.problems]
    return BagCheck(
        duration=(bag.end_ns - bag.start_ns) * 1e-9,
        inputs=[_input(bag, topic, expected[topic].use, streams.get(topic, _Stream())) for topic in expected],
        skew=(float(np.median(skews)), float(np.max(skews))) if skews else None,
        observations=observations,
        unusable=unusable,
        findings=findings,
    )


def _expected(topics: Topics, parameters: Parameters) -> dict[str, _Expected]:
    def joints(message: Any) -> str:
        positions_from_message(message, parameters.joint_names)
        return f"{len(message.name)} joints"

    expected = {
        topic: _Expected(
            camera,
            image_message_type(topic),
            ERROR,
            parameters.image_timeout,
            _image,
            "let the driver publish another",
        )
        for camera, topic in topics.cameras.items()
    }
    expected[topics.joint_states] = _Expected(
        "joint states",
        JOINT_STATE,
        ERROR,
        parameters.joint_state_timeout,
        joints,
        "correct joint_names or joint_state_topic in the robot's YAML",
    )
    expected[topics.instruction] = _Expected("instruction", STRING, "", 0.0, lambda message: repr(message.data[:60]))
    for name, topic in topics.controllers.items():
        kind = parameters.controllers[name].type
        if kind in COMMANDS:
            expected.setdefault(topic, _Expected("command", COMMANDS[kind], WARNING, 0.0, lambda message: ""))
    return expected


def _image(message: Any) -> str:
    """Return size and encoding. Of compressed images only the head is read: decoding would take most of the time."""
    if hasattr(message, "format"):
        try:
            with PIL.Image.open(io.BytesIO(message.data)) as image:
                return f"{image.width}x{image.height} {str(image.format).lower()}"
        except OSError as error:
            raise ConversionError(
                f"compressed image of {len(message.data)} bytes, format {message.format!r}, is damaged or no image"
            ) from error
    if message.encoding not in ENCODINGS:
        raise ConversionError(f"image encoding {message.encoding!r} is not one of {list(ENCODINGS)}")
    return f"{message.width}x{message.height} {message.encoding}"


# What is in the bag


def _presence(bag: Bag, topic: str, expected: _Expected) -> list[Finding]:
    """Return what is wrong with a topic as such; that the instruction is missing is another matter."""
    found = bag.topics.get(topic)
    if found is None or not found.count:
        if not expected.severity:
            return []
        if found is not None and found.type == expected.type:
            remedy = "record it while it is published, with a QoS that fits"
            return [Finding(expected.severity, topic, "has no messages", remedy)]
        return [Finding(expected.severity, topic, "is not in the bag", _instead(bag, topic, expected.type))]
    if found.type != expected.type:
        text = f"is of type {found.type}, expected is {expected.type}"
        return [Finding(expected.severity or WARNING, topic, text, _instead(bag, topic, expected.type))]
    return []


def _instead(bag: Bag, topic: str, type_name: str) -> str:
    """Return what to do about a missing topic, by what there is."""
    for other in bag.topics:
        if other.endswith(topic):
            return f"it is {other} in the bag: give --namespace {other.removesuffix(topic).strip('/')}"
    for other in (f"{topic}/compressed", topic.removesuffix("/compressed")):
        if other != topic and other in bag.topics:
            return f"the bag has {other}: set that as the camera's topic in the robot's YAML"
    others = sorted(other.name for other in bag.topics.values() if other.type == type_name)
    if others:
        return f"correct its name in the robot's YAML (of its type the bag has {', '.join(others)}), or record it"
    return f"record it: no topic in the bag is of type {type_name}"


def _read(bag: Bag, topics: Topics, expected: Mapping[str, _Expected]) -> tuple[dict[str, _Stream], array[float]]:
    """Return what is in the topics, and the skew in seconds at each joint state once all inputs have come."""
    streams = {topic: _Stream() for topic in expected}
    skews: array[float] = array("d")
    newest = dict.fromkeys([*topics.cameras.values(), topics.joint_states], 0)
    for message in bag.messages(list(expected)):
        stream, wanted = streams[message.topic], expected[message.topic]
        stream.times_ns.append(message.time_ns)
        if message.stamp_ns is not None:
            stream.stamps_ns.append(message.stamp_ns)
        if message.topic in newest:
            newest[message.topic] = message.stamp_ns or 0
        if message.topic == topics.joint_states and all(newest.values()):
            skews.append((max(newest.values()) - min(newest.values())) * 1e-9)
        try:
            stream.contents[wanted.look(message.decode())] += 1
        except ConversionError as error:
            stream.faults[str(error)] += 1
        except BagError:  # the bag's problems name it
            continue
    return streams, skews


def _faults(topic: str, stream: _Stream, expected: _Expected) -> list[Finding]:
    """Return what the node cannot use; it is an error where that is every message."""
    count = len(stream.times_ns)
    found = []
    for text, number in stream.faults.items():
        severity = ERROR if expected.severity == ERROR and sum(stream.faults.values()) == count else WARNING
        found.append(Finding(severity, topic, f"{number} of {count} messages: {text}", expected.remedy))
    if len(stream.contents) > 1 and expected.timeout:
        found.append(Finding(WARNING, topic, f"changes: {', '.join(stream.contents)}", "record with one setting"))
    return found


def _instruction(topics: Topics, parameters: Parameters, streams: Mapping[str, _Stream]) -> list[Finding]:
    if parameters.instruction.strip() or topics.instruction in streams:
        return []
    remedy = f"replay with --instruction '...', set instruction in the robot's YAML, or record {topics.instruction}"
    return [Finding(ERROR, topics.instruction, "there is no instruction", remedy)]


# Clocks and rates


def _timing(topic: str, stream: _Stream, expected: _Expected) -> list[Finding]:
    """Return what is wrong with the stamps and the pauses of an input that must be fresh."""
    if not expected.timeout:
        return []
    delays, gaps = stream.delays(), stream.gaps()
    found = [*_delay(topic, delays, expected.timeout)] if not _unstamped(stream) else [_no_stamps(topic)]
    if gaps.max(initial=0.0) > expected.timeout:
        text = f"pauses {np.count_nonzero(gaps > expected.timeout)} times, up to {gaps.max():.2f} s; {expected.use} is "
        text += f"stale after {expected.timeout:g} s and the robot would hold"
        found.append(Finding(WARNING, topic, text, "see what keeps the driver or the recorder's disk from keeping up"))
    return found


def _unstamped(stream: _Stream) -> bool:
    return bool(stream.stamps_ns) and not any(stream.stamps_ns)


def _no_stamps(topic: str) -> Finding:
    return Finding(ERROR, topic, "its header stamps are all zero", "let the driver stamp its messages")


def _delay(topic: str, delays: np.ndarray, timeout: float) -> list[Finding]:
    median, late = float(np.median(delays)), int(np.count_nonzero(np.abs(delays) > timeout))
    if abs(median) > CLOCK_MISMATCH_S:
        text = f"its stamps are {median:.0f} s before their receipt: they are of another clock"
        return [Finding(ERROR, topic, text, "synchronise the clocks; in simulation record with --use-sim-time")]
    clocks = "synchronise the clocks of driver and recorder (chrony)"
    if late > len(delays) / 2:
        text = f"is received {median:.3f} s after its stamp, allowed are {timeout:g} s"
        return [Finding(ERROR, topic, text, f"{clocks}, or raise its timeout in the robot's YAML")]
    if late:
        text = f"{late} of {len(delays)} messages are received more than {timeout:g} s off their stamps"
        return [Finding(WARNING, topic, text, f"{clocks}, and see what delays them")]
    if delays.min() < -AHEAD:
        ahead = np.count_nonzero(delays < -AHEAD)
        text = f"{ahead} of {len(delays)} messages are received up to {-delays.min():.3f} s before their stamps"
        return [Finding(WARNING, topic, text, clocks)]
    return []


def _rate(topics: Topics, parameters: Parameters, streams: Mapping[str, _Stream]) -> list[Finding]:
    """Return whether joint states come as often as the node is to infer."""
    stream = streams.get(topics.joint_states)
    rate = _per_second(stream) if stream is not None else 0.0
    if not 0.0 < rate < 0.99 * parameters.inference_rate:
        return []
    text = (
        f"comes at {rate:.1f} Hz: the node infers no oftener, though inference_rate is {parameters.inference_rate:g} Hz"
    )
    return [Finding(WARNING, topics.joint_states, text, "raise its rate, or lower inference_rate in the robot's YAML")]


def _per_second(stream: _Stream) -> float:
    duration = (stream.times_ns[-1] - stream.times_ns[0]) * 1e-9 if stream.times_ns else 0.0
    return (len(stream.times_ns) - 1) / duration if duration > 0 else 0.0


def _observations(bag: Bag, topics: Topics, parameters: Parameters) -> tuple[int, dict[str, int]]:
    """Return how often the node would have inferred, and at how many joint states it could not, by the reason."""
    # With an instruction in any case: whether there is one has been looked at.
    feed = BagFeed(bag, topics, replace(parameters, instruction=parameters.instruction or "any"))
    observations = sum(1 for _ in feed.snapshots())
    return observations, dict(feed.unusable)


def _synchronisation(
    observations: int, unusable: Mapping[str, int], skews: array[float], parameters: Parameters
) -> list[Finding]:
    tolerance = parameters.sync_tolerance
    apart = sum(skew > tolerance for skew in skews)
    found = []
    if apart > WITHOUT_OBSERVATION * len(skews):
        text = (
            f"at {apart} of {len(skews)} joint states the newest images and joint states are more than sync_tolerance "
        )
        text += f"({tolerance:g} s) apart: {np.median(skews):.3f} s in the median, {max(skews):.3f} s at most"
        remedy = "correct the stamps of what lags, or raise sync_tolerance in the robot's YAML"
        found.append(Finding(ERROR if not observations else WARNING, "", text, remedy))
    if not observations and not found:
        reasons = "; ".join(unusable) or "the joint states end before all inputs have come"
        found.append(Finding(ERROR, "", f"the node would never infer: {reasons}", "see the other lines"))
    return found


def _input(bag: Bag, topic: str, use: str, stream: _Stream) -> Input:
    found = bag.topics.get(topic)
    delays, gaps = stream.delays(), stream.gaps()
    return Input(
        use=use,
        topic=topic,
        type=found.type if found else "",
        count=found.count if found else 0,
        rate=_per_second(stream),
        longest_gap=float(gaps.max(initial=0.0)),
        delay=(float(delays.min()), float(np.median(delays)), float(delays.max())) if len(delays) else None,
        content=", ".join(content for content in stream.contents if content),
    )
