"""The policy's process with the backend wrapped in faults: faulty_policy_server.py FAULTS SOCKET"""

from __future__ import annotations

import json
import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ttnn_core.backend import Backend, BackendError
from pi0_ttnn_core.policy import Policy
from pi0_ttnn_ros.inference.policy_process import PolicyOptions
from pi0_ttnn_ros.inference.policy_server import load_and_warm_up, serve

FAULTS = Path(sys.argv[1])


def faults() -> dict[str, Any]:
    return json.loads(FAULTS.read_text())


class FaultyBackend:
    """Does what the file says before or instead of inferring.

    seconds: takes so long; raises: fails with this text; exits: the process ends with this status; nan: one action is
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.device, self.config = backend.name, backend.device, backend.config

    def sample_actions(self, *arguments: Any) -> np.ndarray:
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
        self._backend.close()


def load(options: PolicyOptions) -> Policy:
    """Load as the node does, unless `load_raises` says otherwise, and wrap the backend."""
    if "load_raises" in faults():
        raise BackendError(faults()["load_raises"])
    policy = load_and_warm_up(options)
    policy.backend = FaultyBackend(policy.backend)
    return policy


serve(Connection(int(sys.argv[2])), load)
