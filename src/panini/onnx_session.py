"""Opens networks in ONNX Runtime, by default on the CPU with all cores available to the process."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime

onnxruntime.disable_telemetry_events()  # for programs that import it before `panini`

CPU = "CPUExecutionProvider"


def open_network(model: Path | bytes, threads: int | None = None, provider: str = CPU) -> onnxruntime.InferenceSession:
    """Opens an ONNX file or its bytes. threads: number of cores; None: all available cores.

    provider: the execution provider. The CPU runs what it does not support, or everything if it cannot be loaded.
    Raises the exceptions of ONNX Runtime, which have no common base class.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    options.log_severity_level = 4  # no messages: errors are raised
    return onnxruntime.InferenceSession(model, options, providers=list(dict.fromkeys((provider, CPU))))


def cores() -> int:
    """Number of cores in the affinity mask, which ONNX Runtime ignores. At most `OMP_NUM_THREADS`, if set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(wanted)) if wanted.isdecimal() and int(wanted) else cores
