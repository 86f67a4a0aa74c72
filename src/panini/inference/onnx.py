"""Runs the exported graphs in ONNX Runtime. This is the default engine. It does not need PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from panini.errors import PaniniError
from panini.inference.base import Array, EngineOutput, graph_input
from panini.onnx_session import CPU, open_network
from panini.weights import DEFAULT, calibration, read_header


class OnnxEngine:
    """Runs `dre.onnx` and `restorer.onnx` from the folder of a weights file (default: the weights in the package).

    threads: number of cores; None: all available cores. provider: the execution provider of ONNX Runtime.
    Processes faces one by one, so memory does not grow with their number. Raises PaniniError if a file is missing or
    damaged, or belongs to another version or network.
    """

    def __init__(self, weights: Path | None = None, threads: int | None = None, provider: str = CPU) -> None:
        path = DEFAULT if weights is None else weights
        self.digest = read_header(path).digest
        self.calibration = calibration.load(path.with_name(calibration.NAME), self.digest)
        self._dre = _session(path.with_name("dre.onnx"), self.digest, threads, provider)
        self._restorer = _session(path.with_name("restorer.onnx"), self.digest, threads, provider)
        faces, v = self._restorer.get_inputs()
        self.input_size, self.dim = faces.shape[-1], v.shape[-1]
        self.output_size, self.levels = (output.shape[-1] for output in self._restorer.get_outputs()[:2])

    def degradation(self, faces: Array, /) -> Array:
        """v_DR [N, dim] of faces [N, 3, input_size, input_size], float32 RGB in [-1, 1]."""
        v = np.empty((len(faces), self.dim), np.float32)
        for i in range(len(faces)):
            (v[i : i + 1],) = self._dre.run(["v"], {"faces": faces[i : i + 1]})
        return v

    def restore(self, faces: Array, v: Array, own: Array, /) -> EngineOutput:
        """See `Engine.restore`."""
        v = graph_input(v, own)
        images = np.empty((len(faces), 3, self.output_size, self.output_size), np.float32)
        share = np.empty((len(faces), self.levels), np.float32)
        kept = np.empty((len(faces), 1), np.float32)
        for i in range(len(faces)):
            one = slice(i, i + 1)
            images[one], share[one], kept[one] = self._restorer.run(None, {"faces": faces[one], "v": v[one]})
        return EngineOutput(images, share, kept)


def _session(graph: Path, digest: str, threads: int | None, provider: str) -> onnxruntime.InferenceSession:
    if not graph.exists():
        raise PaniniError(f"{graph} is missing: create it with `panini export`")
    try:
        session = open_network(graph, threads, provider)
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise PaniniError(f"cannot load the network {graph}: {error}") from error
    if session.get_providers()[0] != provider:  # ONNX Runtime only prints the reason
        raise PaniniError(f"ONNX Runtime cannot load {provider}")
    if session.get_modelmeta().custom_metadata_map.get("weights") != digest:
        raise PaniniError(f"{graph} belongs to other weights: recreate it with `panini export`")
    return session
