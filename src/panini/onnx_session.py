"""ONNX Runtime, as all our networks use it: on the CPU, on no more cores than the process may use."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime

onnxruntime.disable_telemetry_events()  # if a program imported it before `panini`, which turns it off from the start


def open_network(model: Path | bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """The network in an ONNX file or its bytes; `threads` None means all cores that the process may use.

    Raises what ONNX Runtime raises, a dozen kinds without a common ancestor.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _cores()
    options.log_severity_level = 4  # errors are raised; nothing is to be printed
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _cores() -> int:
    """ONNX Runtime's own count knows nothing of an affinity mask."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
