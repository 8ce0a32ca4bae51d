"""pip's view of the package: the policy and its command, without ROS. colcon builds the rest by CMakeLists.txt."""

from setuptools import find_packages, setup

setup(
    name="pi0_ttnn_ros",
    version="0.1.0",
    description="PI0-style vision-language-action policies on the robot, on Tenstorrent Wormhole cards",
    license="Apache-2.0",
    packages=find_packages(include=["pi0_ttnn_core", "pi0_ttnn_core.*"]),
    package_data={"pi0_ttnn_core.tt": ["kernels/*.cpp"]},
    python_requires=">=3.10,<3.13",
    install_requires=["numpy<2", "pillow<13", "pyyaml", "safetensors", "sentencepiece", "tokenizers", "torch>=2.3"],
    extras_require={
        "ttnn": ["ttnn==0.81.1"],
        "ros": ["opencv-python-headless<4.12"],
        "demo": ["gym-aloha==0.1.5", "imageio[ffmpeg]", "matplotlib"],
        "test": [
            "catkin_pkg",
            "hypothesis",
            "mypy==1.18.2",
            "pytest<8",
            "ruff==0.14.4",
            "transformers>=5.4,<5.6",
            "types-PyYAML",
        ],
    },
    entry_points={"console_scripts": ["pi0-ttnn = pi0_ttnn_core.cli:main"]},
)
