"""The policy process: when the device hangs or takes the process down, the node survives.

`policy_process.PolicyProcess` starts it with the number of a socket, on which it answers one request at a time.
"""

from __future__ import annotations

import signal
import sys
import traceback
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

# Errors with a text for the user. Any other error is unforeseen: its traceback goes to stderr, which is the node's log.
EXPECTED_ERRORS = (BackendError, CheckpointError, ObservationError, RobotError, TokenizerError)


def serve(connection: Connection, load: Callable[[PolicyOptions], Policy]) -> None:
    """Load the policy that the first request describes, then infer for each request until the node hangs up.

    The first request is PolicyOptions, the following ones are the arguments of `Policy.infer`. An answer is
    (True, result) or (False, what went wrong in words).
    """
    # Ctrl-C goes to the whole process group; the node ends this process when it does not need it any more.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lower_priority()
    policy: Policy | None = None

    def answer(request: Any) -> Any:
        nonlocal policy
        if policy is None:
            policy = load(request)
            return PolicyDescription(policy.backend.name, policy.backend.device)
        return policy.infer(*request)

    logged = ""
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
            text = f"{type(error).__name__}: {error}"
            if text != logged:  # not again for every inference
                traceback.print_exc()
                logged = text
            connection.send((False, text))
    if policy is not None:
        policy.backend.close()


def load_and_warm_up(options: PolicyOptions) -> Policy:
    """Load the policy, which checks that it fits the robot, and run it once: the first inference is the slowest."""
    policy = load_policy(**vars(options))
    images = {camera: np.zeros((48, 64, 3), np.uint8) for camera in options.robot.cameras}
    observation = Observation(images, np.zeros(policy.state_size, np.float32), "warm up", 0)
    chunk = policy.infer(observation)
    if options.with_guidance:
        policy.infer(observation, GuidanceTarget(chunk.actions, np.ones(policy.action_horizon, np.float32)))
    return policy


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), load_and_warm_up)
