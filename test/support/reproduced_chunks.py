"""What must hold of a recorded bag: replay reproduces the node's chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pi0_ttnn_core.policy import load_policy
from pi0_ttnn_ros.bags.reader import open_bag
from pi0_ttnn_ros.observation.stamps import nanoseconds
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.topics import Topics, topics_of
from pi0_ttnn_ros.replay.open_loop import Replay, replay_bag
from pi0_ttnn_ros.replay.options import RECORDED


def assert_reproduced(
    bag: Path, parameters: Parameters, namespace: str, checkpoint: Path, folder: Path, at_least: int
) -> None:
    """Replay the bag on the torch backend into `folder`; assert that every chunk whose inputs it has is reproduced.

    A recorder on a busy machine may have lost inputs: `at_least` so many chunks must have theirs.
    """
    policy = load_policy(checkpoint, "torch", parameters.robot, num_steps=parameters.num_steps)
    replay = Replay(parameters, topics_of(parameters, namespace), policy, {}, reference=RECORDED)
    episode = replay_bag(bag, replay, folder, lambda fraction: None)
    complete = complete_chunks(bag, topics_of(parameters, namespace))
    assert len(complete) >= at_least
    assert {prediction.stamp_ns for prediction in episode.predictions} == complete
    for prediction in episode.predictions:
        np.testing.assert_allclose(prediction.actions, prediction.reference, rtol=0, atol=1e-6)


def complete_chunks(path: Path, topics: Topics) -> set[int]:
    """Return the stamps of the chunks whose joint states and images are all in the bag, ns."""
    stamps: dict[str, set[int | None]] = {}
    chunks = []
    with open_bag(path) as bag:
        for message in bag.messages(bag.topics):
            stamps.setdefault(message.topic, set()).add(message.stamp_ns)
            if message.topic == topics.chunks:
                chunks.append(message.decode())
    complete = set()
    for chunk in chunks:
        images = zip(chunk.cameras, map(nanoseconds, chunk.image_stamps), strict=True)
        needed = {(topics.joint_states, nanoseconds(chunk.header.stamp))}
        needed |= {(topics.cameras[camera], stamp_ns) for camera, stamp_ns in images}
        if all(stamp_ns in stamps.get(topic, ()) for topic, stamp_ns in needed):
            complete.add(nanoseconds(chunk.header.stamp))
    return complete
