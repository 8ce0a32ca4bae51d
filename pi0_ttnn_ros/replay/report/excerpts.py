"""The parts of an episode that a report shows: its worst predictions, trajectories and thumbnails."""

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
from pi0_ttnn_ros.replay.report.schema import DrawnChunk, JointError, Trajectories, WorstPrediction
from pi0_ttnn_ros.replay.report.sums import EpisodeMetrics

WORST = 5  # predictions of a bag shown with their images
WORST_APART = 1.0  # seconds between two of them
THUMBNAIL, QUALITY = 256, 80  # pixels of width, JPEG
RECORDED_POINTS, CHUNKS, CHUNK_POINTS = 600, 60, 13  # drawn at most for each joint
WINDOW = 60.0  # seconds of an episode drawn for each joint
# Maps stamps (ns) of predictions to what the policy saw; those whose images cannot be read are left out.
Scenes = Callable[[Sequence[int]], Mapping[int, Scene]]


def first_stamp_ns(episode: Episode) -> int:
    """Return the earliest stamp of the recording and the predictions."""
    return min(_end_stamps_ns(episode, 0), default=episode.start_ns)


def worst_predictions(episode: Episode, metrics: EpisodeMetrics) -> list[int]:
    """Return the indices of the predictions with the largest errors, largest first, at least WORST_APART apart.

    Actions that are not finite are the worst.
    """
    errors: dict[int, float] = {
        index: error if error is not None and np.isfinite(prediction.actions).all() else np.inf
        for index, (prediction, error) in enumerate(zip(episode.predictions, metrics.prediction_error, strict=True))
        if error is not None or not np.isfinite(prediction.actions).all()
    }
    chosen: list[int] = []
    for index in sorted(errors, key=lambda index: -errors[index]):
        stamp_ns = episode.predictions[index].stamp_ns
        if all(abs(stamp_ns - episode.predictions[other].stamp_ns) >= WORST_APART * 1e9 for other in chosen):
            chosen.append(index)
        if len(chosen) == WORST:
            break
    return chosen


def trajectories(episode: Episode, worst: Sequence[int], parameters: Parameters, limits: Limits) -> Trajectories:
    """Return what is drawn of an episode, around the first of its worst predictions."""
    origin_ns = first_stamp_ns(episode)
    seconds = [(prediction.stamp_ns - origin_ns) * 1e-9 for prediction in episode.predictions]
    length = (max(_end_stamps_ns(episode, -1), default=origin_ns) - origin_ns) * 1e-9
    middle = seconds[worst[0]] if worst else 0.0
    start = min(max(middle - WINDOW / 2, 0.0), max(length - WINDOW, 0.0))
    end = min(start + WINDOW, length)
    times = np.linspace(start, end, RECORDED_POINTS)
    times_ns = origin_ns + np.round(times * 1e9).astype(np.int64)
    recorded = recorded_at(episode.recording, times_ns, parameters.joint_state_timeout)
    shown = [
        _draw_chunk(prediction, time, parameters.time_step)
        for prediction, time in zip(episode.predictions, seconds, strict=True)
        if start <= time <= end
    ]
    stride = -(-len(shown) // CHUNKS) or 1
    return Trajectories(
        start=start,
        end=end,
        times=times.round(3).tolist(),
        recorded=_round(recorded),
        chunks=shown[::stride],
        position_min=limits.position_min.tolist(),
        position_max=limits.position_max.tolist(),
    )


def _end_stamps_ns(episode: Episode, index: int) -> list[int]:
    """Return the stamp at `index` (0 or -1) of the recording and of the predictions, where they have any; ns."""
    stamps_ns = [prediction.stamp_ns for prediction in episode.predictions]
    return [int(times_ns[index]) for times_ns in (episode.recording.times_ns, stamps_ns) if len(times_ns)]


def _draw_chunk(prediction: Prediction, start: float, time_step: float) -> DrawnChunk:
    steps = np.unique(np.linspace(0, len(prediction.actions) - 1, CHUNK_POINTS).round().astype(int))
    return DrawnChunk((start + steps * time_step).round(3).tolist(), _round(prediction.actions[steps]))


def _round(positions: np.ndarray) -> list[list[float | None]]:
    """Round to a tenth of a millimetre or milliradian, finer than can be drawn; None for what is not finite."""
    finer = positions.astype(np.float64).round(4).tolist()
    return [[value if np.isfinite(value) else None for value in point] for point in finer]


def worst_prediction(
    prediction: Prediction, episode: Episode, parameters: Parameters, normalize: Normalize, scene: Scene | None
) -> WorstPrediction:
    """Return what is shown of one of the worst predictions; `scene` is what the policy saw, if known."""
    compared = compare([prediction], episode.recording, parameters, normalize)
    steps = np.flatnonzero(compared.steps[0])
    time = (prediction.stamp_ns - first_stamp_ns(episode)) * 1e-9
    joints, predicted, recorded = [], np.empty(0), np.empty(0)
    if len(steps):
        actions, ground_truth = compared.actions[0, steps], compared.ground_truth[0, steps]
        errors = np.abs(actions - ground_truth).mean(axis=0)
        normalized = np.abs(compared.normalized_actions - compared.normalized_ground_truth)[0, steps].mean(axis=0)
        order = np.argsort(-normalized)
        predicted, recorded = actions[:, order[0]], ground_truth[:, order[0]]
        joints = [
            JointError(parameters.joint_names[joint], float(errors[joint]), float(normalized[joint])) for joint in order
        ]
    return WorstPrediction(
        stamp_ns=prediction.stamp_ns,
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
