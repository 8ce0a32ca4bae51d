"""What a report shows of an episode: the worst ticks, the trajectories, thumbnails."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from pi0_ttnn_ros.execution.safety import Limits
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.replay.episode import Episode, Prediction, Scene
from pi0_ttnn_ros.replay.report.comparison import Normalize, compare, recorded_at
from pi0_ttnn_ros.replay.report.schema import DrawnChunk, JointError, Trajectories, WorstTick
from pi0_ttnn_ros.replay.report.sums import EpisodeMetrics

WORST = 5  # ticks of a bag that are shown with their images
WORST_APART = 1.0  # seconds between two of them
THUMBNAIL, QUALITY = 256, 80  # pixels of width, JPEG
RECORDED_POINTS, CHUNKS, CHUNK_POINTS = 600, 60, 13  # drawn at most, of one joint
WINDOW = 60.0  # seconds of an episode that are drawn joint by joint
# Stamps of ticks -> what was seen at them; those whose images cannot be read are left out.
Scenes = Callable[[Sequence[int]], Mapping[int, Scene]]


def start_ns(episode: Episode) -> int:
    stamps = [
        int(times[0]) for times in (episode.recording.times, [tick.stamp_ns for tick in episode.ticks]) if len(times)
    ]
    return min(stamps, default=episode.start)


def worst_ticks(episode: Episode, metrics: EpisodeMetrics) -> list[int]:
    """Return the ticks with the largest errors, the largest first and some time apart; what is not finite is worst."""
    errors: dict[int, float] = {
        index: error if error is not None and np.isfinite(tick.actions).all() else np.inf
        for index, (tick, error) in enumerate(zip(episode.ticks, metrics.tick_error, strict=True))
        if error is not None or not np.isfinite(tick.actions).all()
    }
    chosen: list[int] = []
    for index in sorted(errors, key=lambda index: -errors[index]):
        stamp_ns = episode.ticks[index].stamp_ns
        if all(abs(stamp_ns - episode.ticks[other].stamp_ns) >= WORST_APART * 1e9 for other in chosen):
            chosen.append(index)
        if len(chosen) == WORST:
            break
    return chosen


def trajectories(episode: Episode, worst: Sequence[int], parameters: Parameters, limits: Limits) -> Trajectories:
    origin, recording = start_ns(episode), episode.recording
    last = max([int(recording.times[-1])] if len(recording.times) else [origin], default=origin)
    length = (max([last, *(tick.stamp_ns for tick in episode.ticks[-1:])]) - origin) * 1e-9
    middle = (episode.ticks[worst[0]].stamp_ns - origin) * 1e-9 if worst else 0.0
    start = min(max(middle - WINDOW / 2, 0.0), max(length - WINDOW, 0.0))
    end = min(start + WINDOW, length)
    times = np.linspace(start, end, RECORDED_POINTS)
    recorded = recorded_at(recording, origin + np.round(times * 1e9).astype(np.int64), parameters.joint_state_timeout)
    ticks = [tick for tick in episode.ticks if start <= (tick.stamp_ns - origin) * 1e-9 <= end]
    every = -(-len(ticks) // CHUNKS) or 1
    return Trajectories(
        start=start,
        end=end,
        times=times.round(3).tolist(),
        recorded=_rounded(recorded),
        chunks=[_drawn(tick, (tick.stamp_ns - origin) * 1e-9, parameters.time_step) for tick in ticks[::every]],
        position_min=limits.position_min.tolist(),
        position_max=limits.position_max.tolist(),
    )


def _drawn(tick: Prediction, start: float, time_step: float) -> DrawnChunk:
    steps = np.unique(np.linspace(0, len(tick.actions) - 1, CHUNK_POINTS).round().astype(int))
    return DrawnChunk((start + steps * time_step).round(3).tolist(), _rounded(tick.actions[steps]))


def _rounded(positions: np.ndarray) -> list[list[float | None]]:
    """To a tenth of a millimetre or milliradian, finer than can be drawn; None where they are not finite."""
    finer = positions.astype(np.float64).round(4).tolist()
    return [[value if np.isfinite(value) else None for value in point] for point in finer]


def worst_tick(
    tick: Prediction, episode: Episode, parameters: Parameters, normalize: Normalize, scene: Scene | None
) -> WorstTick:
    compared = compare([tick], episode.recording, parameters, normalize)
    steps = np.flatnonzero(compared.steps[0])
    time = (tick.stamp_ns - start_ns(episode)) * 1e-9
    joints, predicted, recorded = [], np.empty(0), np.empty(0)
    if len(steps):
        actions, truth = compared.actions[0, steps], compared.truth[0, steps]
        errors = np.abs(actions - truth).mean(axis=0)
        normalized = np.abs(compared.normalized_actions - compared.normalized_truth)[0, steps].mean(axis=0)
        order = np.argsort(-normalized)
        predicted, recorded = actions[:, order[0]], truth[:, order[0]]
        joints = [
            JointError(parameters.joint_names[joint], float(errors[joint]), float(normalized[joint])) for joint in order
        ]
    return WorstTick(
        stamp_ns=tick.stamp_ns,
        time=time,
        error=float(np.mean([joint.normalized_mae for joint in joints])) if joints else None,
        instruction=scene.instruction if scene else "",
        joints=joints,
        times=(time + steps * parameters.time_step).round(3).tolist(),
        predicted=predicted.round(4).tolist(),
        recorded=recorded.round(4).tolist(),
        images={camera: thumbnail(image) for camera, image in scene.images.items()} if scene else {},
    )


def thumbnail(image: np.ndarray) -> str:
    """Return a small JPEG of an RGB image (uint8 [height, width, 3]) as a data URI."""
    picture = Image.fromarray(image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
