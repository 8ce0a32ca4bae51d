"""Bags, whole and broken, against what rosbags reads in the whole one."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")

from pi0_ttnn_ros.aloha import sample_bag as sample
from pi0_ttnn_ros.bags.files import find_bags
from pi0_ttnn_ros.bags.reader import open_bag
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.bags.writer import header, joint_state, message, serialized
from pi0_ttnn_ros.observation.decoding import positions_from_message
from pi0_ttnn_ros.observation.images import ConversionError
from pi0_ttnn_ros.observation.pixels import image_from_message
from pi0_ttnn_ros.observation.stamps import nanoseconds
from support import bags

STRING, IMAGE = "std_msgs/msg/String", "sensor_msgs/msg/Image"


def read(path: Path, topics=None) -> tuple[list[bags.Entry], list[str]]:
    """Return messages and problems."""
    with open_bag(path) as bag:
        found = [(m.time_ns, m.topic, bytes(m.raw)) for m in bag.messages(bag.topics if topics is None else topics)]
        return found, bag.problems


@pytest.fixture
def bag(sample_bag, tmp_path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(sample_bag, tmp_path / "bag"))


@pytest.mark.parametrize(
    "storage, compression",
    [pair for pair in itertools.product(("mcap", "sqlite3"), ("none", "file", "message", "storage"))][:-1],
)
def test_reads_what_was_written(sample_bag, tmp_path, storage, compression):
    file = bags.rewrite(sample_bag, tmp_path / "bag", storage, compression)
    expected = bags.entries(sample_bag)
    assert read(tmp_path / "bag") == (expected, [])
    assert read(file) == (expected, [])
    with open_bag(tmp_path / "bag") as bag:
        assert (bag.start_ns, bag.end_ns) == (expected[0][0], expected[-1][0])
        assert bag.topics["/joint_states"].count == sum(topic == "/joint_states" for _, topic, _ in expected)


def test_decoding_is_lazy(sample_bag):
    """Messages that the node can use are decoded, when asked for."""
    with open_bag(sample_bag) as bag:
        messages = list(bag.messages(bag.topics))
        states = [m for m in messages if m.topic == sample.JOINT_STATES]
        images = [m for m in messages if m.topic == sample.CAMERAS["top"]]
        (instruction,) = (m for m in messages if m.topic == sample.INSTRUCTION_TOPIC)
        assert instruction.decode().data == "pick up the red cube" and instruction.stamp_ns is None
        for m in (*states[:3], *images[:3]):
            assert m.stamp_ns == nanoseconds(m.decode().header.stamp) and 0 < m.time_ns - m.stamp_ns < 30_000_000
        assert image_from_message(images[0].decode()).shape == (240, 320, 3)
        assert positions_from_message(states[0].decode(), sample.JOINT_NAMES)[1] == pytest.approx(-0.96, abs=0.01)
        # The cube is 4 cm wide: the gripper, commanded to close, holds it.
        assert 0.5 < positions_from_message(states[-1].decode(), ["right_gripper"])[0] < 0.7


def make_sample_bag(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pi0_ttnn_ros.aloha.sample_bag", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_sample_bag_is_the_same_each_time(sample_bag, tmp_path):
    arguments = ("--out", tmp_path / "again", "--seconds", 4, "--storage", "sqlite3")
    assert make_sample_bag(*arguments).returncode == 0
    assert bags.entries(tmp_path / "again") == bags.entries(sample_bag)
    again = make_sample_bag(*arguments)
    assert again.returncode == 2 and "exists already" in again.stderr
    short = make_sample_bag("--out", tmp_path / "short", "--seconds", 1)
    assert short.returncode == 2 and "at least 4 s" in short.stderr and not (tmp_path / "short").exists()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_split_bags(sample_bag, tmp_path, storage):
    files = bags.split(sample_bag, tmp_path / "bag", storage)
    expected = bags.entries(sample_bag)
    assert read(tmp_path / "bag") == (expected, [])

    files[1].rename(tmp_path / "elsewhere")
    found, problems = read(tmp_path / "bag")
    third = len(expected) // 3
    assert found == expected[:third] + expected[2 * third :]
    (line,) = problems
    assert files[1].name in line and "put it back" in line

    (tmp_path / "elsewhere").rename(files[1])
    (tmp_path / "bag" / "metadata.yaml").unlink()
    found, (line,) = read(tmp_path / "bag")
    assert found == expected and "metadata.yaml: is missing" in line and "ros2 bag reindex" in line


def test_damaged_metadata(bag, sample_bag):
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information: [\n")
    found, (line,) = read(bag)
    assert found == bags.entries(sample_bag) and "metadata.yaml: is damaged" in line and "reindex" in line


@pytest.mark.parametrize("storage, compression", [("mcap", "none"), ("mcap", "storage"), ("sqlite3", "none")])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_cut_off_in_the_middle_of_a_message(sample_bag, tmp_path, storage, compression, share):
    file = bags.rewrite(sample_bag, tmp_path / "bag", storage, compression)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    found, problems = read(tmp_path / "bag")
    expected = bags.entries(sample_bag)
    # A chunk is compressed as one: of the last one zstd gives back whole blocks of 128 KiB only.
    assert len(found) > (share - (0.25 if compression == "storage" else 0.1)) * len(expected)
    # Rows of SQLite lie a little apart from the pages that their long data go on in.
    assert found == [entry for entry in expected if entry in found]
    assert found[-1] in expected[: len(found) + (5 if storage == "sqlite3" else 0)]
    assert problems and all(str(file) in line for line in problems)
    assert "cut off" in problems[0] and ("mcap recover" in problems[0] or ".recover" in problems[0])


def test_write_ahead_log_of_a_killed_recorder(sample_bag, tmp_path):
    expected = bags.entries(sample_bag)
    file = bags.rewrite(sample_bag, tmp_path / "bag", "sqlite3", only=expected[:100])
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode = WAL")
    topics = {name: number for number, name in database.execute("SELECT id, name FROM topics")}
    rows = [(topics[topic], time, raw) for time, topic, raw in expected[100:]]
    database.executemany("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", rows)
    database.commit()
    # As it lies there while the recorder has not closed it.
    shutil.copytree(tmp_path / "bag", tmp_path / "killed")
    database.close()
    assert read(tmp_path / "killed") == (expected, [])


def test_compressed_file_cut_off(sample_bag, tmp_path):
    file = bags.rewrite(sample_bag, tmp_path / "bag", "mcap", "file")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    found, problems = read(tmp_path / "bag")
    expected = bags.entries(sample_bag)
    assert found == expected[: len(found)] and len(found) > len(expected) // 3
    assert "does not decompress to its end" in problems[0] and str(file) in problems[0]


@pytest.mark.parametrize("compression", ["none", "storage"])
def test_damaged_chunk(sample_bag, tmp_path, compression):
    file = bags.rewrite(sample_bag, tmp_path / "bag", "mcap", compression)
    content = bytearray(file.read_bytes())
    # More than an image, so that the border between two messages is hit; not the first chunk's header.
    content[200_000:230_000] = bytes(30_000)
    file.write_bytes(content)
    found, (line,) = read(tmp_path / "bag")
    expected = bags.entries(sample_bag)
    assert expected[-1] in found and len(found) < len(expected)
    assert "damaged chunk" in line and str(file) in line and "copy the file again" in line


def test_chunk_with_a_wrong_checksum(sample_bag, tmp_path):
    file = bags.rewrite(sample_bag, tmp_path / "bag", "mcap")
    content = bytearray(file.read_bytes())
    chunk = content.index(b"\x06", 8 + 9 + content[9])
    content[chunk + 9 + 24 : chunk + 9 + 28] = b"\x01\x02\x03\x04"
    file.write_bytes(content)
    _, (line,) = read(tmp_path / "bag")
    assert "its checksum does not match" in line


def test_without_chunks_and_index(sample_bag, tmp_path):
    expected = [entry for entry in bags.entries(sample_bag) if entry[1] in (sample.JOINT_STATES, sample.TRAJECTORY)]
    types = {topic: sample.TOPICS[topic][0] for topic in (sample.JOINT_STATES, sample.TRAJECTORY)}
    # A recorder with several threads does not quite keep the order.
    shuffled = [entry for pair in zip(expected[1::2], expected[::2], strict=True) for entry in pair]
    file = tmp_path / "loose.mcap"
    content = bags.loose_mcap(shuffled, types)
    file.write_bytes(content)
    assert read(file) == (expected, [])

    file.write_bytes(content[: len(content) // 2])
    found, (line,) = read(file)
    assert found == sorted(shuffled[: len(found)]) and len(found) > len(expected) // 2 - 10
    assert "cut off" in line

    file.write_bytes(content[:-800] + bytes(800))
    found, (line,) = read(file)
    assert len(found) > len(expected) - 10 and "is damaged at byte" in line


def test_lz4_chunks_without_index(sample_bag, tmp_path):
    expected = [entry for entry in bags.entries(sample_bag) if entry[1] == sample.JOINT_STATES]
    file = tmp_path / "a.mcap"
    content = bags.lz4_mcap(expected, {sample.JOINT_STATES: sample.TOPICS[sample.JOINT_STATES][0]})
    file.write_bytes(content)
    assert read(file) == (expected, [])

    file.write_bytes(content[: len(content) // 2])
    found, (line,) = read(file)
    # The first chunk has 48 messages beside schema and channel; the second lacks its end, and so does its only block.
    assert found == expected[: len(found)] and len(found) >= 48 and "cut off" in line

    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0xFF
    file.write_bytes(damaged)
    found, (line,) = read(file)
    assert len(found) == len(expected) - 50 and "damaged chunk" in line


def test_topics_that_cannot_be_used(sample_bag, tmp_path):
    states = [entry for entry in bags.entries(sample_bag) if entry[1] == sample.JOINT_STATES]
    empty = "/camera_top/image_raw/compressed"
    bags.rewrite(sample_bag, tmp_path / "bag", only=states)
    found, problems = read(tmp_path / "bag", [sample.JOINT_STATES, "/wrist/image_raw", empty])
    assert found == states
    missing, without = problems
    assert (
        f"{tmp_path / 'bag'}: /wrist/image_raw: is not in the bag, which has" in missing
        and "correct the name" in missing
    )
    assert f"{empty}: has no messages" in without and "QoS" in without


def test_type_without_definition(tmp_path):
    file = tmp_path / "loose.mcap"
    raw = bytes(serialized(message(STRING, data="hello")))
    file.write_bytes(bags.loose_mcap([(1, "/a", raw), (2, "/b", raw)], {"/a": STRING, "/b": "my_robot/msg/Torque"}))
    found, (line,) = read(file)
    assert found == [(1, "/a", raw)]
    assert "/b" in line and "my_robot/msg/Torque" in line and "record as MCAP" in line


def test_damaged_description_of_a_topic(tmp_path):
    """A topic whose description is damaged is left out, the others are read."""
    file = tmp_path / "loose.mcap"
    raw = bytes(serialized(message(STRING, data="hello")))
    content = bags.loose_mcap([(1, "/a", raw), (2, "/b", raw)], {"/a": STRING, "/b": STRING})
    file.write_bytes(content.replace(bags.text("/b"), b"\xff\xff\xff\xff/b"))
    found, (line,) = read(file)
    assert found == [(1, "/a", raw)]
    assert str(file) in line and "damaged description of a topic" in line


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_type_with_its_definition_in_the_bag(tmp_path, storage):
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("std_msgs/Header header\nfloat64[2] torques\n", "my_robot/msg/Torque"))
    torque = store.types["my_robot/msg/Torque"](header=header(7), torques=np.array([1.0, 2.0]))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        connection = writer.add_connection("/torque", "my_robot/msg/Torque", typestore=store)
        writer.write(connection, 9, store.serialize_cdr(torque, "my_robot/msg/Torque"))
    with open_bag(tmp_path / "bag") as bag:
        (found,) = bag.messages(["/torque"])
        assert found.stamp_ns == 7 and found.decode().torques.tolist() == [1.0, 2.0]
        assert bag.problems == []


def test_own_messages(tmp_path):
    chunk = message(
        "pi0_ttnn_ros/msg/ActionChunk",
        header=header(5),
        sequence=1,
        instruction="wave",
        joint_names=["a"],
        time_step=0.02,
        horizon=2,
        actions=np.array([1, 2], np.float32),
        cameras=["top"],
        image_stamps=[header(4).stamp],
        inference_time=0.1,
        backend="torch",
    )
    (tmp_path / "a.mcap").write_bytes(
        bags.loose_mcap([(6, "/chunk", bytes(serialized(chunk)))], {"/chunk": "pi0_ttnn_ros/msg/ActionChunk"})
    )
    with open_bag(tmp_path / "a.mcap") as bag:
        (found,) = bag.messages(["/chunk"])
        assert found.decode().instruction == "wave" and found.stamp_ns == 5


def test_bytes_of_another_type(tmp_path):
    file = tmp_path / "loose.mcap"
    raw = bytes(serialized(message(STRING, data="hello")))
    file.write_bytes(bags.loose_mcap([(1, "/joint_states", raw)], {"/joint_states": "sensor_msgs/msg/JointState"}))
    with open_bag(file) as bag:
        (found,) = bag.messages(["/joint_states"])
        with pytest.raises(BagError, match=r"/joint_states: .* \d+ bytes is not a sensor_msgs/msg/JointState"):
            found.decode()
        (line,) = bag.problems
        assert str(file) in line and "another version of the type" in line


def test_two_types_on_one_topic(sample_bag, tmp_path):
    first, second = tmp_path / "bag" / "bag_0.mcap", tmp_path / "bag" / "bag_1.mcap"
    first.parent.mkdir()
    raw = bytes(serialized(message(STRING, data="hello")))
    first.write_bytes(bags.loose_mcap([(1, "/a", raw)], {"/a": STRING}))
    second.write_bytes(bags.loose_mcap([(2, "/a", raw)], {"/a": "std_msgs/msg/ColorRGBA"}))
    found, problems = read(first.parent)
    assert found == [(1, "/a", raw)]
    assert "/a: has two types" in problems[-1] and "record one publisher" in problems[-1]


def test_header_stamps_that_go_back(tmp_path):
    stamps = [10, 20, 15, 30, 25, 40]
    messages = [
        (time, "/joint_states", bytes(serialized(joint_state(stamp_ns, ["a"], np.ones(1), np.zeros(0)))))
        for time, stamp_ns in enumerate(stamps, start=100)
    ]
    file = tmp_path / "a.mcap"
    file.write_bytes(bags.loose_mcap(messages, {"/joint_states": "sensor_msgs/msg/JointState"}))
    found, (line,) = read(file)
    assert found == messages
    assert "/joint_states: 2 header stamps are earlier than the one before" in line and "clock" in line


def test_other_serialization(tmp_path):
    file = tmp_path / "a.mcap"
    file.write_bytes(bags.loose_mcap([(1, "/a", b"{}"), (2, "/a", b"{}")], {"/a": STRING}, encoding="json"))
    found, (line,) = read(file)
    assert found == [] and "/a: is serialised as 'json'" in line


def test_damaged_compressed_message(sample_bag, tmp_path):
    file = bags.rewrite(sample_bag, tmp_path / "bag", "sqlite3", "message")
    with sqlite3.connect(file) as database:
        database.execute("UPDATE messages SET data = substr(data, 1, length(data) / 2) WHERE id = 5")
    database.close()
    found, (line,) = read(tmp_path / "bag")
    assert len(found) == len(bags.entries(sample_bag)) - 1
    assert "a message is damaged and left out" in line


def test_image_encoding_that_is_not_known(tmp_path):
    image = message(
        IMAGE,
        header=header(1),
        height=1,
        width=1,
        encoding="bayer_rggb8",
        is_bigendian=0,
        step=1,
        data=np.zeros(1, np.uint8),
    )
    (tmp_path / "a.mcap").write_bytes(bags.loose_mcap([(1, "/cam", bytes(serialized(image)))], {"/cam": IMAGE}))
    with open_bag(tmp_path / "a.mcap") as bag:
        (found,) = bag.messages(["/cam"])
        with pytest.raises(ConversionError, match="'bayer_rggb8' is not one of"):
            image_from_message(found.decode())


def test_not_a_bag(sample_bag, tmp_path):
    """What is not a bag is refused with what was expected."""
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    (tmp_path / "fake.mcap").write_text("hello")
    (tmp_path / "fake.db3").write_text("hello" * 1000)
    (tmp_path / "empty.mcap").write_bytes(bags.loose_mcap([], {"/a": STRING}))
    (tmp_path / "folder").mkdir()
    for name, text in {
        "notes.txt": "is not a rosbag2",
        "old.bag": "rosbags-convert",
        "fake.mcap": "is not an MCAP file",
        "fake.db3": "is not a bag's SQLite file",
        "empty.mcap": "holds no messages",
        "folder": "is not a rosbag2",
        "nothing": "does not exist",
    }.items():
        with pytest.raises(BagError, match=text) as error, open_bag(tmp_path / name):
            pass
        assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)
    files = bags.split(sample_bag, tmp_path / "lost")
    for file in files:
        file.unlink()
    with (
        pytest.raises(BagError, match=r"lost_0.mcap: is missing.*lost_2.mcap: is missing"),
        open_bag(tmp_path / "lost"),
    ):
        pass


def test_finds_bags(sample_bag, tmp_path):
    for name in ("b", "a"):
        shutil.copytree(sample_bag, tmp_path / "bags" / name)
    (tmp_path / "bags" / "alone.mcap").write_bytes(bags.storage_file(sample_bag).read_bytes())
    (tmp_path / "bags" / "notes").mkdir()
    assert [path.name for path in find_bags(tmp_path / "bags")] == ["a", "alone.mcap", "b"]
    assert find_bags(tmp_path / "bags" / "a") == [tmp_path / "bags" / "a"]
    assert find_bags(tmp_path / "bags" / "alone.mcap") == [tmp_path / "bags" / "alone.mcap"]
    for name in ("one.mcap", "two.mcap"):
        shutil.copy(tmp_path / "bags" / "alone.mcap", tmp_path / "bags" / "notes" / name)
    assert [path.name for path in find_bags(tmp_path / "bags" / "notes")] == ["one.mcap", "two.mcap"]
    with pytest.raises(BagError, match="holds several bags; name one of"), open_bag(tmp_path / "bags" / "notes"):
        pass
    split = tmp_path / "split"
    bags.split(sample_bag, split)
    (split / "metadata.yaml").unlink()
    assert find_bags(split) == [split]
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="is not a rosbag2"):
        find_bags(tmp_path / "empty")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_memory_does_not_grow_with_the_bag(tmp_path, storage):
    from rosbags.rosbag2 import StoragePlugin, Writer

    from pi0_ttnn_ros.bags.message_types import jazzy_types

    raw = bytes(serialized(message(STRING, data="x" * 400_000)))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        connection = writer.add_connection("/a", STRING, typestore=jazzy_types())
        for time in range(100):
            writer.write(connection, time, raw)
    tracemalloc.start()
    with open_bag(tmp_path / "bag") as bag:
        assert sum(1 for _ in bag.messages(["/a"])) == 100
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000  # of 40 MB


def test_reads_without_ros(sample_bag):
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['rclpy', 'std_msgs', 'sensor_msgs', 'builtin_interfaces']));"
        "from pathlib import Path; from pi0_ttnn_ros.bags.reader import open_bag\n"
        f"with open_bag(Path({str(sample_bag)!r})) as bag: print(len([m.decode() for m in bag.messages(bag.topics)]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(bags.entries(sample_bag))
