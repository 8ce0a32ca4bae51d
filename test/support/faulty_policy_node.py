"""The policy node with a backend that the test can make fail: faulty_policy_node.py FAULTS --ros-args ...

FAULTS is a JSON file that is read at every load and inference, see `faulty_policy_server`.
"""

import sys
from pathlib import Path

from pi0_ttnn_ros.node.policy_node import main

main((sys.executable, str(Path(__file__).with_name("faulty_policy_server.py")), sys.argv[1]))
