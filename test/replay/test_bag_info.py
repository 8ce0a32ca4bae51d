"""bag-info on the sample bag, and on variants in which one thing is wrong."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")

from pi0_ttnn_ros.aloha import sample_bag as sample
from pi0_ttnn_ros.bags.reader import open_bag
from pi0_ttnn_ros.bags.writer import BagWriter, header, message, qos, serialized
from pi0_ttnn_ros.cli.main import main
from pi0_ttnn_ros.parameters.parameters import CameraParameters, ControllerParameters
from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
from pi0_ttnn_ros.replay.bag_check import ERROR, WARNING, check_bag
from pi0_ttnn_ros.system.package_files import robot_file
from support import bags

TOP = sample.CAMERAS["top"]
SECOND = 10**9


@pytest.fixture
def parameters():
    return parameters_from_yaml(robot_file("sample"), {"checkpoint": "none"})


@pytest.fixture
def changed(sample_bag, tmp_path):
    """Write the sample bag with each entry replaced by what a function makes of it, None for nothing."""

    def write(change) -> Path:
        entries = [new for entry in bags.entries(sample_bag) if (new := change(*entry)) is not None]
        bags.rewrite(sample_bag, tmp_path / "bag", only=sorted(entries, key=lambda entry: entry[0]))
        return tmp_path / "bag"

    return write


def findings(path: Path, parameters, namespace="") -> list[tuple[str, str, str]]:
    with open_bag(path) as bag:
        check = check_bag(bag, parameters, namespace)
    assert check.is_usable == all(finding.severity != ERROR for finding in check.findings)
    return [(finding.severity, finding.topic, f"{finding.text} -> {finding.remedy}") for finding in check.findings]


def with_first_camera(parameters, topic: str):
    first, *_ = parameters.cameras
    return replace(parameters, cameras=parameters.cameras | {first: CameraParameters(topic)})


def restamped(raw: bytes, shift: int, scale: int = 1) -> bytes:
    seconds, nanoseconds = struct.unpack_from("<iI", raw, 4)
    stamp_ns = (seconds * SECOND + nanoseconds) * scale + shift
    return raw[:4] + struct.pack("<iI", stamp_ns // SECOND, stamp_ns % SECOND) + raw[12:]


def test_the_sample_bag_fits(sample_bag, parameters):
    with open_bag(sample_bag) as bag:
        check = check_bag(bag, parameters)
    assert check.is_usable and check.findings == []
    inputs = {entry.topic: entry for entry in check.inputs}
    joints, top = inputs["/joint_states"], inputs[TOP]
    assert (joints.count, joints.content) == (200, "14 joints") and joints.rate == pytest.approx(50.0, rel=0.01)
    assert top.content == "320x240 jpeg" and top.rate == pytest.approx(1e9 / 60e6, rel=0.02)
    assert top.longest_gap == pytest.approx(0.06, abs=0.02)
    assert inputs["/pi0_policy/instruction"].content == "'pick up the red cube'"
    for entry in (joints, top):
        low, high = sample.DELAYS_NS.get(entry.topic, sample.IMAGE_DELAY_NS)
        shortest, median, longest = entry.delay
        assert low * 1e-9 <= shortest < median < longest <= high * 1e-9
    # 4 s at 10 Hz, less the images' way at the beginning.
    assert 38 <= check.observations <= 40
    assert check.skew is not None and check.skew[1] <= parameters.sync_tolerance


def test_missing_topics_and_what_to_write_instead(sample_bag, parameters):
    topics = {name: camera.topic.removesuffix("/compressed") for name, camera in parameters.cameras.items()}
    raw = replace(parameters, cameras={name: CameraParameters(topic) for name, topic in topics.items()})
    assert findings(sample_bag, raw)[0] == (
        ERROR,
        "/camera_top/image_raw",
        f"is not in the bag -> the bag has {TOP}: set that as the camera's topic in the robot's YAML",
    )
    arm = ControllerParameters("joint_trajectory", "arm/command", parameters.joint_names)
    wrong = replace(parameters, joint_state_topic="arm/joint_states", controllers={"arm": arm})
    joints, command = findings(sample_bag, wrong)
    assert joints[:2] == (ERROR, "/arm/joint_states") and "(of its type the bag has /joint_states)" in joints[2]
    assert command[:2] == (WARNING, "/arm/command")


def test_namespace(sample_bag, parameters, tmp_path):
    topics = {f"/robot1{topic}": kind for topic, kind in sample.TOPICS.items()}
    with BagWriter(tmp_path / "bag", topics) as writer:
        for time, topic, raw in bags.entries(sample_bag):
            writer.write(f"/robot1{topic}", time, raw)
    assert findings(tmp_path / "bag", parameters, "robot1") == []
    assert all("give --namespace robot1" in text for severity, _, text in findings(tmp_path / "bag", parameters)[:4])


def test_wrong_type_and_topic_without_messages(sample_bag, parameters, changed):
    wrong = with_first_camera(parameters, sample.TRAJECTORY)
    severity, topic, text = findings(sample_bag, wrong)[0]
    assert (severity, topic) == (ERROR, sample.TRAJECTORY) and "is of type trajectory_msgs/msg/JointTrajectory" in text
    path = changed(lambda time, topic, raw: None if topic == TOP else (time, topic, raw))
    assert findings(path, parameters) == [
        (ERROR, TOP, "has no messages -> record it while it is published, with a compatible QoS")
    ]


def test_joint_names(sample_bag, parameters):
    names = ["left_hip", *parameters.joint_names[1:]]
    ((severity, topic, text),) = findings(sample_bag, replace(parameters, joint_names=names))
    assert (severity, topic) == (ERROR, "/joint_states")
    assert "200 of 200 messages: joint states lack ['left_hip']" in text and "correct joint_names" in text


def test_instruction(parameters, changed):
    path = changed(lambda time, topic, raw: None if topic == sample.INSTRUCTION_TOPIC else (time, topic, raw))
    severity, topic, text = findings(path, parameters)[0]
    assert (severity, topic) == (ERROR, sample.INSTRUCTION_TOPIC) and "--instruction" in text
    assert all(severity == WARNING for severity, _, _ in findings(path, replace(parameters, instruction="wave")))


def test_gap(parameters, changed):
    def change(time, topic, raw):
        lost = topic == TOP and sample.START_NS + SECOND < time < sample.START_NS + 2 * SECOND
        return None if lost else (time, topic, raw)

    (severity, topic, text), (_, _, apart) = findings(changed(change), parameters)
    assert (severity, topic) == (WARNING, TOP) and "more than sync_tolerance" in apart
    assert "pauses 1 times, up to 1.0" in text and "stale after 0.5 s" in text


def test_clocks(sample_bag, parameters, tmp_path):
    def with_stamps(shift: int, scale: int = 1) -> list[tuple[str, str, str]]:
        folder = tmp_path / f"{shift}"
        entries = [
            (time, topic, restamped(raw, shift, scale) if topic == TOP else raw)
            for time, topic, raw in bags.entries(sample_bag)
        ]
        bags.rewrite(sample_bag, folder, only=entries)
        return findings(folder, parameters)

    ((severity, topic, text),) = with_stamps(0, scale=0)
    assert (severity, topic) == (ERROR, TOP) and "header stamps are all zero" in text
    ((severity, topic, text),) = with_stamps(-3600 * SECOND)
    assert (severity, topic) == (ERROR, TOP) and "3600 s before their receive times" in text and "synchronise" in text
    ((severity, topic, text),) = with_stamps(-SECOND)
    assert (severity, topic) == (ERROR, TOP) and "0.5 s are allowed" in text
    # Within its timeout, yet too far from the others.
    ((severity, topic, text),) = with_stamps(-SECOND // 4)
    assert severity == ERROR and "more than sync_tolerance (0.1 s) apart" in text and "raise sync_tolerance" in text
    ((severity, topic, text),) = with_stamps(60_000_000)
    assert (severity, topic) == (WARNING, TOP) and "before their stamps" in text


def test_slow_joint_states(parameters, changed):
    path = changed(
        lambda time, topic, raw: None if topic == "/joint_states" and time // 20_000_000 % 8 else (time, topic, raw)
    )
    ((severity, topic, text),) = findings(path, parameters)
    assert (severity, topic) == (WARNING, "/joint_states") and "comes at 6." in text and "inference_rate" in text


@pytest.mark.parametrize("encoding", ["rgb8", "bayer_rggb8"])
def test_raw_images(sample_bag, parameters, tmp_path, encoding):
    topics = sample.TOPICS | {"/raw": ("sensor_msgs/msg/Image", qos(1))}
    with BagWriter(tmp_path / "bag", topics) as writer:
        for time, topic, raw in bags.entries(sample_bag):
            writer.write(topic, time, raw)
            if topic == TOP:
                width = 4 if time < sample.START_NS + SECOND else 8
                image = message(
                    "sensor_msgs/msg/Image",
                    header=header(time),
                    height=2,
                    width=width,
                    encoding=encoding,
                    is_bigendian=0,
                    step=3 * width,
                    data=np.zeros(6 * width, np.uint8),
                )
                writer.write("/raw", time, serialized(image))
    raw = with_first_camera(parameters, "/raw")
    found = findings(tmp_path / "bag", raw)
    if encoding == "rgb8":
        assert found == [(WARNING, "/raw", "changes: 4x2 rgb8, 8x2 rgb8 -> record with one setting")]
    else:
        ((severity, topic, text),) = found
        assert (severity, topic) == (ERROR, "/raw") and "image encoding 'bayer_rggb8' is not one of" in text


def test_undecodable_images(parameters, changed):
    """Images that cannot be decoded are reported."""

    def change(time, topic, raw):
        return time, topic, raw.replace(b"\xff\xd8\xff\xe0", bytes(4)) if topic == TOP else raw

    found = findings(changed(change), parameters)
    assert found and all(severity == ERROR and topic == TOP for severity, topic, _ in found)
    assert "is damaged: it is neither JPEG nor PNG" in found[0][2]


@pytest.mark.parametrize("topic", [TOP, "/joint_states"])
def test_messages_that_all_lost_their_stamps(parameters, changed, topic):
    """A topic of which no message can be read is an error that names it."""
    found = findings(changed(lambda time, name, raw: (time, name, raw[:6] if name == topic else raw)), parameters)
    assert (ERROR, topic) == found[0][:2] and "none of its messages can be read" in found[0][2]


def test_impossible_receive_times(sample_bag, parameters, tmp_path):
    """Messages whose receive times are no times are left out and reported."""
    entries = [
        (2**64 - 1 if topic == TOP else time, topic, raw)
        for time, topic, raw in sorted(bags.entries(sample_bag), key=lambda entry: entry[1] == TOP)
    ]
    kinds = {topic: kind for topic, (kind, _) in sample.TOPICS.items()}
    (tmp_path / "a.mcap").write_bytes(bags.loose_mcap(entries, kinds))
    found = findings(tmp_path / "a.mcap", parameters)
    assert any("is damaged at byte" in text for *_, text in found)
    assert (ERROR, TOP) in [finding[:2] for finding in found]


def test_reader_problems_are_reported(sample_bag, parameters, changed):
    """What the reader left out is reported."""
    path = changed(lambda *entry: entry)
    (path / "metadata.yaml").unlink()
    ((severity, _, text),) = findings(path, parameters)
    assert severity == WARNING and "metadata.yaml: is missing" in text


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = main(["bag-info", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command(sample_bag, tmp_path, capsys):
    status, out, _ = run(capsys, sample_bag, "--robot", "sample")
    assert status == 0 and out.endswith("\nfits\n")
    (row,) = (line.split() for line in out.splitlines() if TOP in line)
    assert row[:3] == ["base_0_rgb", TOP, "67"] and row[-2:] == ["320x240", "jpeg"]

    status, out, _ = run(capsys, sample_bag, "--robot", robot_file("demo"))
    assert status == 1 and out.endswith("\ndoes not fit\n") and f"-> the bag has {TOP}" in out

    status, out, _ = run(capsys, sample_bag, "--robot", "sample", "--json")
    content = json.loads(out)
    assert status == 0 and content["fits"] and content["inputs"][0]["topic"] == TOP

    for arguments, text in (
        ((tmp_path / "nothing", "--robot", "sample"), "does not exist"),
        ((sample_bag, "--robot", "nobody"), "choose from"),
        ((sample_bag, "--robot", tmp_path / "robot.yaml"), "robot.yaml"),
    ):
        status, out, error = run(capsys, *arguments)
        assert status == 2 and out == "" and text in error and error.count("\n") == 1


def test_the_command_without_ros(sample_bag):
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['rclpy', 'std_msgs', 'sensor_msgs', 'builtin_interfaces']));"
        f"from pi0_ttnn_ros.cli.main import main; main(['bag-info', {str(sample_bag)!r}, '--robot', 'sample'])"
    )
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout.endswith(b"fits\n")


def test_installed_command(sample_bag):
    """`pi0-ttnn bag-info`, as a process."""
    command = [sys.executable, "-m", "pi0_ttnn_ros.cli.main", "bag-info", str(sample_bag), "--robot", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "does not fit" in done.stdout
