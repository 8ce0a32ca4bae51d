"""The chunks of a node in a bag, and the observations they were inferred from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ttnn_ros.bags.reader import Bag, BagMessage
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.observation.buffer import Snapshot
from pi0_ttnn_ros.observation.images import SerializedImage
from pi0_ttnn_ros.observation.stamps import nanoseconds
from pi0_ttnn_ros.parameters.topics import Topics, is_compressed


@dataclass(frozen=True)
class RecordedChunk:
    """One chunk as the node published it.

    Attributes:
        stamp_ns: stamp of its observation.
        image_stamps_ns: stamps of its images, by camera.
        instruction: of its observation.
        actions: float32 [horizon, joints], rad or m.
    """

    stamp_ns: int
    image_stamps_ns: dict[str, int]
    instruction: str
    actions: np.ndarray


def recorded_chunks(bag: Bag, topics: Topics, joint_names: Sequence[str], horizon: int) -> list[RecordedChunk]:
    """Return the chunks in a bag.

    Raises:
        BagError: there are none, or they are of other joints or another horizon.
    """
    if topics.chunks not in bag.topics or not bag.topics[topics.chunks].count:
        raise BagError(f"{bag.path}: {topics.chunks} has no chunks: compare with a backend, or record that topic")
    chunks = []
    for message in bag.messages([topics.chunks]):
        chunk = message.decode()
        if list(chunk.joint_names) != list(joint_names) or chunk.horizon != horizon:
            raise BagError(
                f"{bag.path}: {topics.chunks}: {chunk.horizon} actions of {list(chunk.joint_names)} were recorded, but "
                f"the checkpoint and the robot's YAML give {horizon} of {list(joint_names)}"
            )
        stamps_ns = [nanoseconds(stamp) for stamp in chunk.image_stamps]
        actions = np.array(chunk.actions, np.float32).reshape(horizon, len(joint_names))
        images = dict(zip(chunk.cameras, stamps_ns, strict=True))
        chunks.append(RecordedChunk(nanoseconds(chunk.header.stamp), images, chunk.instruction, actions))
    return chunks


def chunk_observations(
    bag: Bag, topics: Topics, chunks: Sequence[RecordedChunk]
) -> Iterator[tuple[int, Snapshot, RecordedChunk]]:
    """Yield each chunk with its inputs, images not decoded, and the receive time (ns) of the last of them.

    A chunk whose inputs are not all in the bag is left out and counted in the bag's problems.
    """
    needed_by: dict[tuple[str, int], list[int]] = defaultdict(list)
    missing: list[set[tuple[str, int]]] = []
    for index, chunk in enumerate(chunks):
        missing.append({(topics.joint_states, chunk.stamp_ns)} | _images(chunk, topics))
        for key in missing[index]:
            needed_by[key].append(index)
    found: dict[tuple[str, int], BagMessage] = {}
    for message in bag.messages([topics.joint_states, *topics.cameras.values()]):
        if message.stamp_ns is None or not needed_by.get(key := (message.topic, message.stamp_ns)):
            continue
        found[key] = message
        for index in needed_by[key]:
            missing[index].discard(key)
            if not missing[index]:
                yield message.time_ns, _snapshot(chunks[index], topics, found), chunks[index]
        for done in [done for done in found if all(not missing[index] for index in needed_by[done])]:
            del found[done], needed_by[done]
    lost = sum(bool(keys) for keys in missing)
    if lost:
        bag.problems.append(
            f"{bag.path}: {topics.chunks}: {lost} of {len(chunks)} chunks left out: the images or joint states they "
            f"were inferred from are not in the bag; start to record before the node is activated"
        )


def _images(chunk: RecordedChunk, topics: Topics) -> set[tuple[str, int]]:
    unknown = sorted(chunk.image_stamps_ns.keys() - topics.cameras.keys())
    if unknown:
        raise BagError(f"{topics.chunks}: the chunks are of cameras {unknown}, which the robot's YAML does not name")
    return {(topics.cameras[camera], stamp_ns) for camera, stamp_ns in chunk.image_stamps_ns.items()}


def _snapshot(chunk: RecordedChunk, topics: Topics, found: dict[tuple[str, int], BagMessage]) -> Snapshot:
    images = {}
    for camera, stamp_ns in chunk.image_stamps_ns.items():
        topic = topics.cameras[camera]
        images[camera] = SerializedImage(found[topic, stamp_ns].raw, is_compressed(topic))
    joint_states = found[topics.joint_states, chunk.stamp_ns].decode()
    return Snapshot(images, joint_states, chunk.instruction, chunk.stamp_ns)
