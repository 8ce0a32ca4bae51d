"""What must hold of a recorded bag: replay reproduces the node's chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pi0_ttnn_core.policy import load_policy
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.topics import topics_of
from pi0_ttnn_ros.replay.open_loop import Replay, replay_bag
from pi0_ttnn_ros.replay.options import RECORDED


def assert_reproduced(
    bag: Path, parameters: Parameters, namespace: str, checkpoint: Path, folder: Path, at_least: int
) -> None:
    """Replay the bag on the torch backend into `folder`; assert that it has enough chunks and leaves none out."""
    policy = load_policy(checkpoint, "torch", parameters.robot, num_steps=parameters.num_steps)
    replay = Replay(parameters, topics_of(parameters, namespace), policy, {}, reference=RECORDED)
    episode = replay_bag(bag, replay, folder, lambda fraction: None)
    assert len(episode.predictions) >= at_least
    for prediction in episode.predictions:
        np.testing.assert_allclose(prediction.actions, prediction.reference, rtol=0, atol=1e-6)
    assert not [problem for problem in episode.problems if "chunks left out" in problem]
