"""The policy process: when the device hangs or takes the process down, the node survives.

`policy_process.PolicyProcess` starts it with the number of a socket, on which it answers one request at a time.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import traceback
from collections.abc import Callable

import numpy as np

from pi0_ttnn_core.backend import BackendError, DeviceLost
from pi0_ttnn_core.checkpoints.checkpoint import CheckpointError
from pi0_ttnn_core.policy import Policy, load_policy
from pi0_ttnn_core.policy_io import Observation, ObservationError
from pi0_ttnn_core.processing.robot import RobotError, robot_from_parameters
from pi0_ttnn_core.processing.tokenizer import TokenizerError
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_ros.inference import requests
from pi0_ttnn_ros.inference.framing import Message, receive, send
from pi0_ttnn_ros.inference.requests import PolicyDescription, PolicyOptions
from pi0_ttnn_ros.observation.decoding import decoded_observation
from pi0_ttnn_ros.observation.images import ConversionError
from pi0_ttnn_ros.system.child_process import end_with_parent, has_hung_up
from pi0_ttnn_ros.system.scheduling import lower_priority

# Errors with a text for the user. Any other error is unforeseen: its traceback goes to stderr, which is the node's log.
EXPECTED_ERRORS = (BackendError, CheckpointError, ConversionError, ObservationError, RobotError, TokenizerError)
MAX_REQUEST_SIZE = 1 << 30  # bytes; more than the images of all cameras


def serve(connection: socket.socket, load: Callable[[PolicyOptions], Policy]) -> None:
    """Load the policy that the first request describes, then infer for each request until the node hangs up.

    An error is answered in words; after the loss of the device, the process ends.
    """
    # Ctrl-C goes to the whole process group; the node ends this process when it does not need it any more.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()  # in the middle of loading, too: the device must not stay occupied
    if has_hung_up(connection.fileno()):  # the node ended before
        return
    lower_priority()
    policy: Policy | None = None

    def answer(request: Message) -> Message:
        nonlocal policy
        if policy is None:
            policy = load(requests.options_of(request))
            return requests.loaded(PolicyDescription(policy.backend.name, policy.backend.device))
        observation, target = requests.observation_of(request)
        return requests.inferred(policy.infer(decoded_observation(observation), target))

    def close() -> None:
        if policy is not None:
            with contextlib.suppress(RuntimeError):  # a device that hangs
                policy.backend.close()

    logged = ""
    with contextlib.suppress(EOFError, ConnectionError):  # the node hung up
        while True:
            request = receive(connection, MAX_REQUEST_SIZE)
            try:
                response = answer(request)
            except DeviceLost as error:
                # The node starts another process, which finds the device closed rather than in the midst of something.
                close()
                send(connection, *requests.failure(str(error)))
                return
            except EXPECTED_ERRORS as error:
                response = requests.failure(str(error))
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                if text != logged:  # not again for every inference
                    traceback.print_exc()
                    logged = text
                response = requests.failure(text)
            send(connection, *response)
    close()


def load_and_warm_up(options: PolicyOptions) -> Policy:
    """Load the policy, which checks that it fits the robot, and run it once: the first inference is the slowest."""
    robot = robot_from_parameters(options.robot)
    policy = load_policy(**{**vars(options), "robot": robot})
    images = {camera: np.zeros((48, 64, 3), np.uint8) for camera in robot.cameras}
    observation = Observation(images, np.zeros(policy.state_size, np.float32), "warm up", 0)
    chunk = policy.infer(observation)
    if options.with_guidance:
        policy.infer(observation, GuidanceTarget(chunk.actions, np.ones(policy.action_horizon, np.float32)))
    return policy


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), load_and_warm_up)
