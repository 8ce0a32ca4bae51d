"""The policy in a process of its own: when the device hangs or takes the process down, the node is still there.

Started by `policy_process.PolicyProcess` with the number of a socket to talk over, one request at a time.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from pi0_ttnn_core.backend import BackendError
from pi0_ttnn_core.checkpoints.checkpoint import CheckpointError
from pi0_ttnn_core.policy import Policy, load_policy
from pi0_ttnn_core.policy_io import Observation, ObservationError
from pi0_ttnn_core.processing.robot import RobotError
from pi0_ttnn_core.processing.tokenizer import TokenizerError
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_ros.inference.policy_process import PolicyDescription, PolicyOptions
from pi0_ttnn_ros.system.scheduling import lower_priority

# What has a text for the user; of anything else that goes wrong the type is told as well.
EXPECTED_ERRORS = (BackendError, CheckpointError, ObservationError, RobotError, TokenizerError)


def serve(connection: Connection, load: Callable[[PolicyOptions], Policy]) -> None:
    """Load what the first request names, run it once, then infer for each request until the other side hangs up.

    A request is the arguments of `Policy.infer`; an answer is (True, result) or (False, what went wrong in words).
    """
    # A Ctrl-C goes to the whole process group; the node ends this process when it has no more use for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lower_priority()
    policy: Policy | None = None

    def answer(request: Any) -> Any:
        nonlocal policy
        if policy is None:
            policy = load(request)
            return PolicyDescription(policy.backend.name, policy.backend.device)
        return policy.infer(*request)

    while True:
        try:
            request = connection.recv()
        except (EOFError, ConnectionResetError):
            break
        try:
            connection.send((True, answer(request)))
        except EXPECTED_ERRORS as error:
            connection.send((False, str(error)))
        except Exception as error:
            connection.send((False, f"{type(error).__name__}: {error}"))
    if policy is not None:
        policy.backend.close()


def load_and_warm_up(options: PolicyOptions) -> Policy:
    """Load the policy, which is checked to fit the robot, and run it once: the first inference is the slowest."""
    policy = load_policy(**vars(options))
    images = {camera: np.zeros((48, 64, 3), np.uint8) for camera in options.robot.cameras}
    observation = Observation(images, np.zeros(policy.state_size, np.float32), "warm up", 0)
    chunk = policy.infer(observation)
    if options.with_guidance:
        policy.infer(observation, GuidanceTarget(chunk.actions, np.ones(policy.action_horizon, np.float32)))
    return policy


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), load_and_warm_up)
