"""pi0-ttnn validate: every component on the device against the float32 reference.

The device is used in a subprocess. If a component crashes it, that component has failed, and the others continue in a
new subprocess.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pi0_ttnn_core.backend import BackendError
from pi0_ttnn_core.checkpoints.checkpoint import open_checkpoint
from pi0_ttnn_core.checkpoints.random_checkpoint import random_weight
from pi0_ttnn_core.checkpoints.tensor_names import expected_shapes
from pi0_ttnn_core.configs import CONFIGS, PI0Config
from pi0_ttnn_core.ttnn_output import error_reason
from pi0_ttnn_core.validation.comparison import Comparison, compare, threshold
from pi0_ttnn_core.wormhole import select_wormhole

if TYPE_CHECKING:
    from torch import Tensor

SEED = 0
# A simulator computes some 170 MFLOP/s: a model with more weights is validated there in parts.
SIMULATED_WEIGHTS = 20_000_000


@dataclass(frozen=True)
class Validation:
    """What to validate.

    Attributes:
        config: name of the sizes of a model with random weights.
        checkpoint: folder of a checkpoint to validate instead.
        components: names of components. Empty: all.
        precision: one of PRECISIONS.
    """

    config: str
    checkpoint: Path | None
    components: Sequence[str]
    precision: str


HEADER = f"{'component':26}{'compared':14} {'PCC':>9} {'max error':>10} {'threshold':>10}"


def validate(validation: Validation, as_json: bool) -> bool:
    """Compare, print a table or JSON, and return whether everything that was compared passed.

    Raises:
        BackendError: there is no device, or a component is unknown.
        CheckpointError: the checkpoint cannot be used.
    """
    config = open_checkpoint(validation.checkpoint).config if validation.checkpoint else CONFIGS[validation.config]
    weights = str(validation.checkpoint) if validation.checkpoint else f"random weights of {validation.config}"
    model = f"{config.family}, {weights}, precision {validation.precision}"
    comparisons, device = [], ""
    for report in _reports(validation):
        if "device" in report:
            if not device and not as_json:
                print(f"{report['device']}; {model}\n{HEADER}", flush=True)
            device = report["device"]
            continue
        comparisons.append(Comparison(**report))
        if not as_json:
            print(comparisons[-1], flush=True)
    passed = all(comparison.passed for comparison in comparisons if not comparison.skipped)
    if as_json:
        rows = [{**asdict(comparison), "passed": comparison.passed} for comparison in comparisons]
        print(json.dumps({"device": device, "model": model, "passed": passed, "components": rows}, indent=2))
    return passed


def _reports(validation: Validation) -> Iterator[dict[str, Any]]:
    """Yield {"device": name} for each subprocess, and the fields of each Comparison."""
    wormhole = select_wormhole()
    if isinstance(wormhole, str):
        raise BackendError(wormhole)
    done: list[str] = []
    while True:
        options = {
            **asdict(validation),
            "checkpoint": validation.checkpoint and str(validation.checkpoint),
            "done": done,
            "device": wormhole.name,
            "simulated": wormhole.simulated,
        }
        running, status = None, 0
        with tempfile.TemporaryFile() as log:
            for report in _run(options, log.fileno()):
                if "finished" in report:
                    return
                if "refused" in report:
                    raise BackendError(report["refused"])
                if "running" in report:
                    running = report["running"]
                elif "status" in report:
                    status = report["status"]
                else:
                    yield report
                if "component" in report:
                    done.append(report["component"])
                    running = None
            log.seek(0)
            last_line = (log.read().decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        ended = f"the device's process ended with status {status}: {last_line.strip()}"
        if running is None:
            raise BackendError(ended)
        done.append(running)
        yield asdict(Comparison(running, threshold(running, validation.precision), error=ended))


def _run(options: Mapping[str, Any], log: int) -> Iterator[dict[str, Any]]:
    """Run `main` in a subprocess that prints into `log`; yield its reports, and its exit status at the end."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "pi0_ttnn_core.validation.runner", json.dumps(options), str(writer)]
    process = subprocess.Popen(command, stdout=log, stderr=log, pass_fds=[writer])
    os.close(writer)
    try:
        with os.fdopen(reader) as lines:
            for line in lines:
                yield json.loads(line)
    finally:
        # The device is free only after this.
        process.wait()
    yield {"status": process.returncode}


def main() -> None:
    """Compare on the device. Arguments: options as JSON, and the file descriptor of the pipe for reports."""
    options = json.loads(sys.argv[1])
    with os.fdopen(int(sys.argv[2]), "w") as pipe:

        def report(**content: Any) -> None:
            pipe.write(json.dumps(content) + "\n")
            pipe.flush()

        try:
            _measure(options, report)
            report(finished=True)
        except BackendError as error:
            report(refused=str(error))
        except ImportError as error:
            report(refused=f"backend ttnn requires the package ttnn ({error}): pip install 'pi0_ttnn_ros[ttnn]'")


def _measure(options: Mapping[str, Any], report: Callable[..., None]) -> None:
    # Imported here: ttnn reads the environment that the parent has set.
    import torch
    import ttnn

    from pi0_ttnn_core.precision import PRESETS
    from pi0_ttnn_core.tt.runtime.device import open_device
    from pi0_ttnn_core.validation.components import components, shortened
    from pi0_ttnn_core.validation.harness import Harness

    checkpoint = open_checkpoint(options["checkpoint"]) if options["checkpoint"] else None
    config = checkpoint.config if checkpoint else CONFIGS[options["config"]]
    known, requested, precision = components(config), options["components"], options["precision"]
    unknown = [name for name in requested if name not in known]
    if unknown:
        raise BackendError(f"unknown components {unknown}: choose from {list(known)}")
    weights = sum(int(np.prod(shape)) for shape in expected_shapes(config).values())
    in_parts: bool = options["simulated"] and weights > SIMULATED_WEIGHTS
    device = open_device(config, config.num_steps)
    grid = device.compute_with_storage_grid_size()
    report(device=f"{options['device']}, {grid.x}x{grid.y} cores")
    stored = checkpoint.read_tensor if checkpoint else None
    harnesses = {
        short: Harness(sizes, weight_reader(sizes, stored), device, PRESETS[precision])
        for short, sizes in ((False, config), (True, shortened(config)))
    }
    for name, component in known.items():
        if name in options["done"] or (requested and name not in requested):
            continue
        lowest = threshold(name, precision)
        if in_parts and component.all_layers and not requested:
            reason = f"takes hours on a simulator at this size; --component {name} runs it"
            report(**asdict(Comparison(name, lowest, skipped=reason)))
            continue
        report(running=name)
        harness = harnesses[in_parts and not component.of_vision and not component.all_layers]
        try:
            with torch.no_grad():
                result = compare(name, lowest, component.compare(harness))
        except RuntimeError as error:
            result = Comparison(name, lowest, error=error_reason(error))
        report(**asdict(result))
    ttnn.close_device(device)


def weight_reader(config: PI0Config, stored: Callable[[str], Tensor] | None) -> Callable[[str], Tensor]:
    """Return a function that reads a tensor by its full canonical name from `stored`, or makes a random one.

    Tables that are longer than the model's are truncated to their first rows.
    """
    import torch

    shapes = expected_shapes(config)
    if stored is None:
        return lambda name: torch.from_numpy(random_weight(name, shapes[name], SEED))
    return lambda name: stored(name)[: shapes[name][0]]


if __name__ == "__main__":
    main()
