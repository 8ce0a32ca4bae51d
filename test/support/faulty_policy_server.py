"""The policy process with a faulty backend: faulty_policy_server.py FAULTS SOCKET.

FAULTS is a JSON file that is read at every load and inference.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ttnn_core.backend import Backend, BackendError
from pi0_ttnn_core.policy import Policy
from pi0_ttnn_ros.inference.policy_server import load_and_warm_up, serve
from pi0_ttnn_ros.inference.requests import PolicyOptions

FAULTS = Path(sys.argv[1])


def faults() -> dict[str, Any]:
    """Return the faults to inject, by name."""
    return json.loads(FAULTS.read_text())


class FaultyBackend:
    """Injects faults before or instead of an inference.

    seconds: sleep before it. raises: raise an error with this text. exits: end the process with this status. nan: make
    one action NaN.
    """

    def __init__(self, backend: Backend) -> None:
        """Wrap a backend."""
        self._backend = backend
        self.name, self.device, self.config = backend.name, backend.device, backend.config

    def sample_actions(self, *arguments: Any) -> np.ndarray:
        """Infer, or fail."""
        fault = faults()
        time.sleep(fault.get("seconds", 0.0))
        if "exits" in fault:
            os._exit(fault["exits"])
        if "raises" in fault:
            raise RuntimeError(fault["raises"])
        actions = self._backend.sample_actions(*arguments)
        if "nan" in fault:
            actions = actions.copy()
            actions[0, 20, 3] = np.nan
        return actions

    def close(self) -> None:
        """Close the backend."""
        self._backend.close()


def load(options: PolicyOptions) -> Policy:
    """Load as the node does and wrap the backend.

    load_hangs: begin only when that is over. load_raises: raise an error with this text instead.
    """
    while "load_hangs" in faults():
        time.sleep(0.05)
    if "load_raises" in faults():
        raise BackendError(faults()["load_raises"])
    policy = load_and_warm_up(options)
    policy.backend = FaultyBackend(policy.backend)
    return policy


serve(socket.socket(fileno=int(sys.argv[2])), load)
