"""Runs a weights file in PyTorch on any device, with the same results as the ONNX engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from panini.errors import PaniniError, how_to_get
from panini.inference.base import Array, EngineOutput, graph_input
from panini.weights import DEFAULT, calibration, read_header

try:
    import torch

    from panini.weights.checkpoint import load_weights
    from panini.weights.graphs import RestorerGraph
except ModuleNotFoundError as error:
    raise PaniniError(f"the torch engine needs {error.name}: {how_to_get('train')}") from error


def has_device(device: str) -> bool:
    """Whether PyTorch can use a device, such as `cuda`, on this machine."""
    return device == "cpu" or bool(torch.get_device_module(device).is_available())


class TorchEngine:
    """Runs the network of a weights file (default: the weights in the package) in float32.

    threads: number of PyTorch threads in the whole process; None: unchanged.
    Raises PaniniError if the weights are missing, damaged or of another version, or if the device is not available.
    """

    def __init__(self, weights: Path | None = None, device: str = "cpu", threads: int | None = None) -> None:
        if threads:
            torch.set_num_threads(threads)
        path = DEFAULT if weights is None else weights
        network = load_weights(path)
        self.digest = read_header(path).digest
        self.calibration = calibration.load(path.with_name(calibration.NAME), self.digest)
        try:
            self._restorer = RestorerGraph(network).to(device).eval()
        except (RuntimeError, AssertionError) as error:
            raise PaniniError(f"cannot use the device {device!r}: {error}") from error
        self._device = device
        self.input_size = network.input_size
        self.output_size = network.prior.size
        self.levels = len(network.dafi.resolutions)
        self.dim: int = network.dre.dim  # type: ignore[assignment]

    def degradation(self, faces: Array, /) -> Array:
        """v_DR [N, dim] of faces [N, 3, input_size, input_size], float32 RGB in [-1, 1]."""
        with torch.inference_mode():
            rows = [self._restorer.network.dre(self._tensor(face[None])).cpu().numpy() for face in faces]
        return np.concatenate(rows) if rows else np.empty((0, self.dim), np.float32)

    def restore(self, faces: Array, v: Array, own: Array, /) -> EngineOutput:
        """See `Engine.restore`."""
        v = graph_input(v, own)
        images = np.empty((len(faces), 3, self.output_size, self.output_size), np.float32)
        share = np.empty((len(faces), self.levels), np.float32)
        kept = np.empty((len(faces), 1), np.float32)
        with torch.inference_mode():
            for i, (face, row) in enumerate(zip(faces, v, strict=True)):
                outputs = self._restorer(self._tensor(face[None]), self._tensor(row[None]))
                images[i], share[i], kept[i] = (part[0].cpu().numpy() for part in outputs)
        return EngineOutput(images, share, kept)

    def _tensor(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
