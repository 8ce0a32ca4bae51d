"""One batch size on the device: its inputs, its KV cache and the trace of one whole inference.

The second command queue uploads inputs into a staging copy while an inference may still be running on the first queue,
which then copies them to where the trace reads them. Only inputs that have changed are uploaded.
"""

from __future__ import annotations

import torch
import ttnn

from pi0_ttnn_core.tt.common import Tensor
from pi0_ttnn_core.tt.model import DeviceInputs, PI0ModelTTNN
from pi0_ttnn_core.tt.runtime.inputs import HostInputs

COMPUTE_QUEUE, UPLOAD_QUEUE = 0, 1
# dtype and layout on the device of inputs that are not bfloat16 in tiles.
FORMATS = {
    "images": (ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT),
    "tokens": (ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT),
    "noise": (ttnn.float32, ttnn.TILE_LAYOUT),
}


class Session:
    """Runs the model on inputs of fixed shapes."""

    def __init__(self, model: PI0ModelTTNN, inputs: HostInputs, traced: bool) -> None:
        """Allocate memory for inputs of the shapes of `inputs`, and upload these.

        With `traced`, one inference is captured and replayed; otherwise ops are dispatched one by one.
        """
        self._model = model
        self._device = model.device
        self._upload_queue = UPLOAD_QUEUE if traced else COMPUTE_QUEUE
        self._uploaded: dict[str, torch.Tensor] = {}
        self._staging = device_inputs(inputs, self._device)
        self._inputs = device_inputs(inputs, self._device)
        # Kept because a copy may still be running when `upload` returns.
        self._host: dict[str, Tensor] = {}
        self._staged: set[str] = set()
        self._moved: ttnn.MeshEvent | None = None
        self._arrived: ttnn.MeshEvent | None = None
        self._cache = model.allocate_cache(len(inputs.tokens))
        self._trace: ttnn.MeshTraceId | None = None
        self._actions: Tensor | None = None
        self.upload(inputs)
        if traced:
            self._capture()

    def upload(self, inputs: HostInputs) -> None:
        """Start to upload the inputs that have changed, without disturbing a running inference."""
        changed = {
            name: values
            for name, values in inputs.present().items()
            if name not in self._uploaded or not torch.equal(values, self._uploaded[name])
        }
        if not changed:
            return
        if self._moved is not None:
            ttnn.wait_for_event(self._upload_queue, self._moved)
        for name, values in changed.items():
            dtype, layout = format_of(name)
            self._host[name] = ttnn.from_torch(values, dtype=dtype, layout=layout)
            ttnn.copy_host_to_device_tensor(self._host[name], getattr(self._staging, name), cq_id=self._upload_queue)
        self._uploaded |= changed
        self._staged |= set(changed)
        if self._upload_queue != COMPUTE_QUEUE:
            self._arrived = ttnn.record_event(self._device, self._upload_queue)

    def run(self) -> torch.Tensor:
        """Return the actions for the inputs uploaded last, float32 [1, 1, batch * suffix, action_dim]."""
        self._move_inputs()
        if self._trace is None:
            return ttnn.to_torch(self._run_model())
        ttnn.execute_trace(self._device, self._trace, cq_id=COMPUTE_QUEUE, blocking=False)
        return ttnn.to_torch(self._actions, cq_id=COMPUTE_QUEUE)

    def close(self) -> None:
        """Free the trace. The session cannot be used afterwards."""
        if self._trace is not None:
            ttnn.release_trace(self._device, self._trace)

    def _move_inputs(self) -> None:
        if not self._staged:
            return
        if self._arrived is not None:
            ttnn.wait_for_event(COMPUTE_QUEUE, self._arrived)
        for name in self._staged:
            ttnn.copy(getattr(self._staging, name), getattr(self._inputs, name))
        self._staged.clear()
        if self._upload_queue != COMPUTE_QUEUE:
            self._moved = ttnn.record_event(self._device, COMPUTE_QUEUE)

    def _run_model(self) -> Tensor:
        return self._model.sample_actions(self._inputs, self._cache)

    def _capture(self) -> None:
        """Run once, to compile the kernels, then capture."""
        self._move_inputs()
        self._run_model()
        trace = ttnn.begin_trace_capture(self._device, cq_id=COMPUTE_QUEUE)
        try:
            try:
                self._actions = self._run_model()
            finally:
                ttnn.end_trace_capture(self._device, trace, cq_id=COMPUTE_QUEUE)
        except BaseException:
            # Nobody else knows of this trace, and while it exists it owns memory.
            ttnn.release_trace(self._device, trace)
            raise
        self._trace = trace


def format_of(name: str) -> tuple[ttnn.DataType, ttnn.Layout]:
    """Return the dtype and the layout of an input on the device."""
    return FORMATS.get(name, (ttnn.bfloat16, ttnn.TILE_LAYOUT))


def device_inputs(inputs: HostInputs, device: ttnn.MeshDevice) -> DeviceInputs:
    """Allocate inputs on the device, of the shapes of `inputs`; they are not initialised."""
    tensors: dict[str, Tensor | None] = dict.fromkeys(vars(inputs))
    for name, values in inputs.present().items():
        dtype, layout = format_of(name)
        tensors[name] = ttnn.allocate_tensor_on_device(ttnn.Shape(values.shape), dtype, layout, device)
    return DeviceInputs(**tensors)
