"""Opens networks in ONNX Runtime, on the CPU and on the cores that the process may use."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime

onnxruntime.disable_telemetry_events()  # for programs that import it before `panini`


def open_network(model: Path | bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Opens an ONNX file or its bytes. threads: number of cores; None: all that the process may use.

    Raises whatever ONNX Runtime raises; its exceptions have no common base class.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _cores()
    options.log_severity_level = 4  # no messages: errors are raised
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _cores() -> int:
    """The cores in the affinity mask, which ONNX Runtime's own count ignores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
