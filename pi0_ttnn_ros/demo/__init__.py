"""The demo and its recorder: `python -m pi0_ttnn_ros.demo`."""
