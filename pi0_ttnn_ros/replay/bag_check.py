"""Check a bag against a robot's parameters: topics, types, contents, rates and clocks."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pi0_ttnn_ros.bags.reader import Bag
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.observation.buffer import CLOCK_MISMATCH_S
from pi0_ttnn_ros.observation.decoding import positions_from_message
from pi0_ttnn_ros.observation.images import ConversionError
from pi0_ttnn_ros.observation.pixels import image_header
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.topics import COMMANDS, JOINT_STATE, STRING, Topics, image_message_type, topics_of
from pi0_ttnn_ros.replay.feed import BagFeed
from pi0_ttnn_ros.replay.topic_check import check_topic

ERROR, WARNING = "error", "warning"
AHEAD_TOLERANCE_S = 0.005  # a clock that is ahead by less does no harm
SKEW_TOLERANCE = 0.05  # fraction of the joint states at which the inputs may be too far apart


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a bag.

    Attributes:
        severity: ERROR: the bag cannot be replayed; or WARNING.
        topic: "" if it is not about one topic.
        text: what is wrong.
        remedy: what to do; may be "".
    """

    severity: str
    topic: str
    text: str
    remedy: str

    @property
    def is_error(self) -> bool:
        """Whether it keeps the bag from being replayed."""
        return self.severity == ERROR


@dataclass(frozen=True)
class Input:
    """One topic that the robot's parameters name, as it is in the bag.

    Attributes:
        use: the camera's name, "joint states", "instruction" or "command".
        topic: full name.
        type: in the bag; "" for a missing topic.
        count: number of messages.
        rate: messages received per second; 0 for fewer than two.
        longest_gap: between two receive times, s.
        delay: smallest, median and largest from header stamp to receive time, s; None: the type has no header.
        content: in words: size and encoding of images, number of joints, the instruction.
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
    """How a bag compares with a robot's parameters.

    Attributes:
        duration: s.
        inputs: every topic that the parameters name.
        skew: median and largest distance between the stamps of the newest images and joint states at each joint state,
            s; None: an input is missing.
        observations: number of inferences that the node would have made.
        unusable: number of joint states without an observation, by reason.
        findings: what is wrong.
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
    """What the parameters expect of a topic.

    Attributes:
        use: see `Input`.
        type: of its messages.
        severity: of the finding that it is missing; "": not a finding.
        timeout: s; 0 for none.
        describe: returns a message's content in words, or raises ConversionError if the node cannot use it.
        remedy: for messages that the node cannot use.
    """

    use: str
    type: str
    severity: str
    timeout: float
    describe: Callable[[Any], str]
    remedy: str = ""


@dataclass
class _Stream:
    """What was read of one topic.

    Attributes:
        times_ns: receive times.
        stamps_ns: header stamps; empty: the type has no header.
        contents: number of messages by content.
        faults: number of messages that the node cannot use, by reason.
    """

    times_ns: array[int] = field(default_factory=lambda: array("q"))
    stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    contents: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def delays(self) -> np.ndarray:
        """Return the seconds from stamp to receive time; empty without stamps."""
        return (
            (np.array(self.times_ns, np.int64) - np.array(self.stamps_ns, np.int64)) * 1e-9
            if self.stamps_ns
            else np.empty(0)
        )

    def gaps(self) -> np.ndarray:
        """Return the seconds between receive times."""
        return np.diff(np.array(self.times_ns, np.int64)) * 1e-9


def check_bag(bag: Bag, parameters: Parameters, namespace: str = "") -> BagCheck:
    """Check a bag. It is read twice if it has everything that the node needs."""
    topics = topics_of(parameters, namespace)
    expected = _expected(topics, parameters)
    findings, readable = _presence(bag, expected)
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
            _describe_image,
            "configure the driver to publish another",
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


def _describe_image(message: Any) -> str:
    """Return size and encoding. Images are not decoded: that would take most of the time."""
    width, height, encoding = image_header(message)
    return f"{width}x{height} {encoding}"


# What is in the bag


def _presence(bag: Bag, expected: Mapping[str, _Expected]) -> tuple[list[Finding], list[str]]:
    """Return what is wrong with topics as such, and the topics that can be read.

    A missing instruction is not among the findings: the parameters may give one.
    """
    findings, readable = [], []
    for topic, wanted in expected.items():
        problem = check_topic(bag, topic, wanted.type)
        if problem is None:
            readable.append(topic)
        elif wanted.severity or (topic in bag.topics and bag.topics[topic].count):
            findings.append(Finding(wanted.severity or WARNING, topic, problem.text, problem.remedy))
    return findings, readable


def _read(bag: Bag, topics: Topics, expected: Mapping[str, _Expected]) -> tuple[dict[str, _Stream], array[float]]:
    """Return what is in the topics, and the skew (s) at each joint state since the first time with all inputs."""
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
            stream.contents[wanted.describe(message.decode())] += 1
        except ConversionError as error:
            stream.faults[str(error)] += 1
        except BagError:  # reported in the bag's problems
            continue
    return streams, skews


def _faults(topic: str, stream: _Stream, expected: _Expected) -> list[Finding]:
    """Return what the node cannot use; it is an error if that is every message."""
    count = len(stream.times_ns)
    if not count:
        remedy = "copy the bag again if there is another copy"
        return [Finding(expected.severity or WARNING, topic, "none of its messages can be read", remedy)]
    found = []
    for text, number in stream.faults.items():
        severity = ERROR if expected.severity == ERROR and sum(stream.faults.values()) == count else WARNING
        found.append(Finding(severity, topic, f"{number} of {count} messages: {text}", expected.remedy))
    if len(stream.contents) > 1 and expected.timeout:
        found.append(Finding(WARNING, topic, f"changes: {', '.join(stream.contents)}", "record with one setting"))
    return found


def _instruction(topics: Topics, parameters: Parameters, streams: Mapping[str, _Stream]) -> list[Finding]:
    if parameters.instruction.strip() or (topics.instruction in streams and streams[topics.instruction].times_ns):
        return []
    remedy = f"give one with --instruction, set instruction in the robot's YAML, or record {topics.instruction}"
    return [Finding(ERROR, topics.instruction, "there is no instruction", remedy)]


# Clocks and rates


def _timing(topic: str, stream: _Stream, expected: _Expected) -> list[Finding]:
    """Return what is wrong with the stamps and gaps of an input that has a timeout."""
    if not expected.timeout or not stream.times_ns:
        return []
    delays, gaps = stream.delays(), stream.gaps()
    found = [*_delay(topic, delays, expected.timeout)] if not _unstamped(stream) else [_no_stamps(topic)]
    if gaps.max(initial=0.0) > expected.timeout:
        text = f"pauses {np.count_nonzero(gaps > expected.timeout)} times, up to {gaps.max():.2f} s; {expected.use} is "
        text += f"stale after {expected.timeout:g} s and the robot would hold"
        found.append(Finding(WARNING, topic, text, "check whether the driver and the recorder's disk keep up"))
    return found


def _unstamped(stream: _Stream) -> bool:
    return bool(stream.stamps_ns) and not any(stream.stamps_ns)


def _no_stamps(topic: str) -> Finding:
    return Finding(ERROR, topic, "its header stamps are all zero", "configure the driver to stamp its messages")


def _delay(topic: str, delays: np.ndarray, timeout: float) -> list[Finding]:
    median, late = float(np.median(delays)), int(np.count_nonzero(np.abs(delays) > timeout))
    if abs(median) > CLOCK_MISMATCH_S:
        text = f"its stamps are {median:.0f} s before their receive times: they are of another clock"
        return [Finding(ERROR, topic, text, "synchronise the clocks; in simulation record with --use-sim-time")]
    clocks = "synchronise the clocks of driver and recorder (chrony)"
    if late > len(delays) / 2:
        text = f"is received {median:.3f} s after its stamp, {timeout:g} s are allowed"
        return [Finding(ERROR, topic, text, f"{clocks}, or raise its timeout in the robot's YAML")]
    if late:
        text = f"{late} of {len(delays)} messages are received more than {timeout:g} s off their stamps"
        return [Finding(WARNING, topic, text, f"{clocks}, and check what delays them")]
    if delays.min() < -AHEAD_TOLERANCE_S:
        ahead = np.count_nonzero(delays < -AHEAD_TOLERANCE_S)
        text = f"{ahead} of {len(delays)} messages are received up to {-delays.min():.3f} s before their stamps"
        return [Finding(WARNING, topic, text, clocks)]
    return []


def _rate(topics: Topics, parameters: Parameters, streams: Mapping[str, _Stream]) -> list[Finding]:
    """Return a finding if joint states are slower than the node is to infer."""
    stream = streams.get(topics.joint_states)
    rate = _per_second(stream) if stream is not None else 0.0
    if not 0.0 < rate < 0.99 * parameters.inference_rate:
        return []
    text = f"comes at {rate:.1f} Hz, slower than inference_rate: {parameters.inference_rate:g} Hz"
    return [Finding(WARNING, topics.joint_states, text, "raise its rate, or lower inference_rate in the robot's YAML")]


def _per_second(stream: _Stream) -> float:
    duration = (stream.times_ns[-1] - stream.times_ns[0]) * 1e-9 if stream.times_ns else 0.0
    return (len(stream.times_ns) - 1) / duration if duration > 0 else 0.0


def _observations(bag: Bag, topics: Topics, parameters: Parameters) -> tuple[int, dict[str, int]]:
    """Return how often the node would have inferred, and how many joint states had no observation, by reason."""
    # With any instruction: that one is missing is a finding of its own.
    feed = BagFeed(bag, topics, replace(parameters, instruction=parameters.instruction or "any"))
    observations = sum(1 for _ in feed.snapshots())
    return observations, dict(feed.unusable)


def _synchronisation(
    observations: int, unusable: Mapping[str, int], skews: array[float], parameters: Parameters
) -> list[Finding]:
    tolerance = parameters.sync_tolerance
    apart = sum(skew > tolerance for skew in skews)
    found = []
    if apart > SKEW_TOLERANCE * len(skews):
        text = (
            f"at {apart} of {len(skews)} joint states the newest images and joint states are more than sync_tolerance "
        )
        text += f"({tolerance:g} s) apart: {np.median(skews):.3f} s in the median, {max(skews):.3f} s at most"
        remedy = "correct the stamps of what lags, or raise sync_tolerance in the robot's YAML"
        found.append(Finding(ERROR if not observations else WARNING, "", text, remedy))
    if not observations and not found:
        reasons = "; ".join(unusable) or "the joint states end before all inputs were received"
        found.append(Finding(ERROR, "", f"the node would never infer: {reasons}", "see the other findings"))
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
