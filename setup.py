"""pip's view of the package: the policy and its command, which replays bags too, without ROS.

The node needs the messages that colcon builds by CMakeLists.txt.
"""

from setuptools import find_packages, setup

setup(
    name="pi0_ttnn_ros",
    version="0.1.0",
    description="PI0-style vision-language-action policies on the robot, on Tenstorrent Wormhole cards",
    license="Apache-2.0",
    packages=[
        *find_packages(include=["pi0_ttnn_core", "pi0_ttnn_core.*", "pi0_ttnn_ros", "pi0_ttnn_ros.*"]),
        "pi0_ttnn_ros.share.config",
        "pi0_ttnn_ros.share.msg",
    ],
    package_dir={"pi0_ttnn_ros.share.config": "config", "pi0_ttnn_ros.share.msg": "msg"},
    package_data={
        "pi0_ttnn_core.tt.kernels": ["*.cpp"],
        "pi0_ttnn_ros.replay.report": ["*.jinja"],
        "pi0_ttnn_ros.share.config": ["*.yaml"],
        "pi0_ttnn_ros.share.msg": ["*.msg"],
    },
    python_requires=">=3.10,<3.13",
    install_requires=[
        "numpy<2",
        "pillow<13",
        "pyyaml",
        "safetensors",
        "sentencepiece",
        "simplejpeg>=1.7",
        "tokenizers",
        "torch>=2.5",
    ],
    extras_require={
        "ttnn": ["ttnn==0.81.1"],
        "replay": [
            "backports.zstd; python_version < '3.14'",
            "jinja2",
            "lz4",
            "mcap>=1.2,<2",
            "opencv-python-headless<4.12",
            "rosbags>=0.11.9,<0.12",
            "tqdm",
            "urdf-parser-py",
        ],
        "ros": ["opencv-python-headless<4.12", "urdf-parser-py"],
        "demo": ["gym-aloha==0.1.5", "imageio[ffmpeg]", "matplotlib"],
        "test": [
            "catkin_pkg",
            "hypothesis",
            "import-linter==2.17",
            "mkdocs-material==9.8.2",
            "mypy==1.18.2",
            "pytest<8",
            "ruff==0.14.4",
            "transformers>=5.4,<5.6",
            "types-PyYAML",
        ],
    },
    entry_points={"console_scripts": ["pi0-ttnn = pi0_ttnn_ros.cli.main:main"]},
)
