"""The policy node as a process whose backend a test can make fail."""

from __future__ import annotations

import json
from pathlib import Path

from support.processes import Process

NODE = str(Path(__file__).with_name("faulty_policy_node.py"))


class FaultyNode(Process):
    """The policy node whose backend fails as `inject` says."""

    def __init__(self, folder: Path, namespace: str, *ros_arguments: str) -> None:
        self._faults = folder / "faults.json"
        self.inject()
        super().__init__([NODE, str(self._faults)], folder / "log", *ros_arguments, namespace=namespace)

    def inject(self, **faults: object) -> None:
        """Replace the injected faults; without arguments nothing fails. See `faulty_policy_server`."""
        new = self._faults.with_suffix(".new")
        new.write_text(json.dumps(faults))
        new.rename(self._faults)  # never half written

    @property
    def policy_process(self) -> int:
        """Return the id of the process that infers."""
        (child,) = self.children()
        return child
