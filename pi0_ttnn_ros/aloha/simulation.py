"""The simulated bimanual ALOHA robot, gym-aloha's MuJoCo model: physics and cameras.

Arm joints in rad, grippers from 0 (closed) to 1 (open).
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np

from pi0_ttnn_ros.aloha.joints import START_BOX, START_POSE

MISSING = "gym-aloha is not installed: pip install 'pi0_ttnn_ros[demo]'"

# mujoco reads this when it is imported: render without a screen.
os.environ.setdefault("MUJOCO_GL", "egl")
try:
    import mujoco
except ImportError as error:
    raise ImportError(MISSING) from error

# Position of a finger, closed and open, m (openpi policies/aloha_policy.py; gym_aloha constants.py).
FINGER_CLOSED, FINGER_OPEN = 0.01844, 0.05800


class AlohaSimulation:
    """The physics. Positions are [14] in the order of JOINT_NAMES."""

    def __init__(self) -> None:
        """Load the model, with the robot and the cube at their start.

        Raises:
            ImportError: gym-aloha is not installed.
        """
        spec = importlib.util.find_spec("gym_aloha")
        if spec is None or not spec.submodule_search_locations:
            raise ImportError(MISSING)
        assets = Path(spec.submodule_search_locations[0]) / "assets"
        self.model = mujoco.MjModel.from_xml_path(str(assets / "bimanual_viperx_transfer_cube.xml"))
        # Rendered in software, an image takes twice as long with multisampling, and five times with shadows.
        self.model.vis.quality.offsamples = 0
        self.data = mujoco.MjData(self.model)
        self.data.ctrl[:] = self.data.qpos[:16] = _to_mujoco(START_POSE)
        self.data.qpos[16:19] = START_BOX
        mujoco.mj_forward(self.model, self.data)

    def step(self, desired: np.ndarray, seconds: float) -> None:
        """Advance the physics while the motors follow `desired`."""
        self.data.ctrl[:] = _to_mujoco(desired)
        mujoco.mj_step(self.model, self.data, round(seconds / self.model.opt.timestep))

    def joint_state(self) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and velocities [14]."""
        qpos, qvel = self.data.qpos[:16].reshape(2, 8), self.data.qvel[:16].reshape(2, 8)
        travel = FINGER_OPEN - FINGER_CLOSED
        positions = np.column_stack([qpos[:, :6], (qpos[:, 6] - FINGER_CLOSED) / travel])
        velocities = np.column_stack([qvel[:, :6], qvel[:, 6] / travel])
        return positions.ravel(), velocities.ravel()


def _to_mujoco(positions: np.ndarray) -> np.ndarray:
    """Return MuJoCo's 16 joints: each gripper has two fingers that mirror each other."""
    arms = positions.reshape(2, 7)
    finger = FINGER_CLOSED + arms[:, 6:] * (FINGER_OPEN - FINGER_CLOSED)
    return np.hstack([arms[:, :6], finger, -finger]).ravel()


class AlohaCameras:
    """Renders what the cameras see. Its OpenGL context belongs to the thread that creates it."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        """Create a renderer for images of `width` x `height` pixels."""
        self._model = model
        self._data = mujoco.MjData(model)
        self._renderer = mujoco.Renderer(model, height, width)
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False

    def move(self, qpos: np.ndarray) -> None:
        """Set the positions of all joints of the MuJoCo model for the next images."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def image(self, camera: str) -> np.ndarray:
        """Render the image of one camera, uint8 [height, width, 3], RGB."""
        self._renderer.update_scene(self._data, camera)
        return self._renderer.render()

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()
