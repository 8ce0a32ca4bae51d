"""pi0-ttnn bench replay-decoding: how much faster than real time a bag is read, decoded and preprocessed.

The bag is written first: three 640x480 JPEG cameras at 30 Hz, joint states at 50 Hz. Replay infers at 10 Hz and decodes
only the images that it infers from. For comparison, the same run measures rosbags and OpenCV, which read, deserialise
and decode everything but do not preprocess it.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rosbags.highlevel import AnyReader

from pi0_ttnn_core.checkpoints.random_checkpoint import REST_POSE, make_checkpoint
from pi0_ttnn_core.model_inputs import ModelInputs
from pi0_ttnn_core.policy import Policy, load_policy
from pi0_ttnn_ros.aloha.joints import JOINT_NAMES
from pi0_ttnn_ros.bags.reader import open_bag
from pi0_ttnn_ros.bags.writer import BagWriter, compressed_image, joint_state, message, qos, serialized
from pi0_ttnn_ros.observation.buffer import Snapshot
from pi0_ttnn_ros.observation.decoding import observation_from_snapshot
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
from pi0_ttnn_ros.parameters.topics import COMPRESSED_IMAGE, JOINT_STATE, STRING, topics_of
from pi0_ttnn_ros.replay.feed import BagFeed
from pi0_ttnn_ros.replay.prefetch import prefetched
from pi0_ttnn_ros.system.machine import cpu_name
from pi0_ttnn_ros.system.package_files import robot_file

WIDTH, HEIGHT, JPEG_QUALITY = 640, 480, 85
CAMERA_RATE, JOINT_STATE_RATE = 30, 50  # Hz
START_NS = 1_750_000_000 * 10**9
DELAY_NS = 5_000_000  # from stamp to receipt
FRAMES = 8  # different images, used in turn


def write_bag(path: Path, parameters: Parameters, seconds: float) -> None:
    """Write the bag to measure on."""
    topics = topics_of(parameters)
    types = {topic: (COMPRESSED_IMAGE, qos(1)) for topic in topics.cameras.values()}
    types |= {topics.joint_states: (JOINT_STATE, qos(1)), topics.instruction: (STRING, qos(1, latched=True))}
    frames = [_jpeg(np.random.default_rng(number)) for number in range(FRAMES)]
    positions = np.array([*REST_POSE, *REST_POSE])
    images_ns = [(START_NS + 10**9 * number // CAMERA_RATE, number) for number in range(round(seconds * CAMERA_RATE))]
    states_ns = [START_NS + 10**9 * number // JOINT_STATE_RATE for number in range(round(seconds * JOINT_STATE_RATE))]
    messages = [
        (stamp_ns, topic, compressed_image(stamp_ns, frames[number % FRAMES], camera))
        for stamp_ns, number in images_ns
        for camera, topic in topics.cameras.items()
    ]
    messages += [
        (stamp_ns, topics.joint_states, joint_state(stamp_ns, list(JOINT_NAMES), positions, np.zeros(len(positions))))
        for stamp_ns in states_ns
    ]
    with BagWriter(path, types) as bag:
        bag.write(topics.instruction, START_NS, serialized(message(STRING, data="bench")))
        for stamp_ns, topic, content in sorted(messages, key=lambda entry: entry[0]):
            bag.write(topic, stamp_ns + DELAY_NS, serialized(content))


def _jpeg(random: np.random.Generator) -> np.ndarray:
    """Return a JPEG that takes about as long to decode as a camera's: shapes and sensor noise."""
    shapes = cv2.resize(random.integers(0, 256, (15, 20, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    noise = random.integers(-4, 5, shapes.shape)
    pixels = np.clip(shapes.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]


def read_as_replay(path: Path, parameters: Parameters, policy: Policy, workers: int) -> int:
    """Prepare the model's inputs of every observation, and return the number of decoded images."""

    def inputs(snapshot: Snapshot) -> ModelInputs:
        return policy.model_inputs(observation_from_snapshot(snapshot, parameters.joint_names))

    with open_bag(path) as bag:
        snapshots = (snapshot for _, snapshot in BagFeed(bag, topics_of(parameters), parameters).snapshots())
        return sum(int(made.image_masks.sum()) for made in prefetched(inputs, snapshots, workers))


def read_with_rosbags(path: Path) -> int:
    """Read, deserialise and decode everything, and return the number of images."""
    images = 0
    with AnyReader([path]) as reader:
        for connection, _, raw in reader.messages():
            content: Any = reader.deserialize(raw, connection.msgtype)
            if connection.msgtype == COMPRESSED_IMAGE:
                images += cv2.imdecode(content.data, cv2.IMREAD_COLOR) is not None
    return images


@dataclass(frozen=True)
class Run:
    """One measurement.

    Attributes:
        seconds: wall time.
        processor_seconds: of all threads.
        images: number of decoded images.
    """

    seconds: float
    processor_seconds: float
    images: int


def measure(side: Callable[[], int]) -> Run:
    """Run one side, which returns the number of decoded images."""
    start, processor_start = time.perf_counter(), time.process_time()
    images = side()
    return Run(time.perf_counter() - start, time.process_time() - processor_start, images)


def bench(seconds: float, repeats: int) -> None:
    """Measure each side `repeats` times in turn, on a bag of `seconds`, and print one line per side."""
    cores = len(os.sched_getaffinity(0))
    # Several observations are processed in parallel, each on one core.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, bag = Path(folder) / "tiny", Path(folder) / "bag"
        make_checkpoint("tiny", checkpoint, seed=0)
        parameters = parameters_from_yaml(robot_file("sample"), {"checkpoint": str(checkpoint)})
        policy = load_policy(checkpoint, "torch", parameters.robot)
        write_bag(bag, parameters, seconds)
        size = sum(file.stat().st_size for file in bag.iterdir())
        print(f"machine: {platform.machine()}, {cores} cores, {cpu_name()}, load {os.getloadavg()[0]:.1f}")
        print(
            f"bag: {seconds:g} s, {size / 1e6:.0f} MB, {len(parameters.cameras)} cameras {WIDTH}x{HEIGHT} in "
            f"JPEG at {CAMERA_RATE} Hz, joints at {JOINT_STATE_RATE} Hz; inferences at {parameters.inference_rate:g} Hz"
        )
        sides: dict[str, Callable[[], int]] = {
            f"replay, {cores} threads": lambda: read_as_replay(bag, parameters, policy, cores),
            "replay, 1 thread": lambda: read_as_replay(bag, parameters, policy, 1),
            "rosbags and OpenCV": lambda: read_with_rosbags(bag),
        }
        runs: dict[str, list[Run]] = {name: [] for name in sides}
        # In turn, so that other load on the machine affects all sides alike.
        for _ in range(repeats):
            for name, side in sides.items():
                runs[name].append(measure(side))
    for name, results in runs.items():
        best = min(results, key=lambda run: run.seconds)
        print(
            f"{name}: {best.seconds:.2f} s, {seconds / best.seconds:.1f} times real time "
            f"({best.processor_seconds:.2f} s of processor time, {best.images} images decoded)"
        )
