"""Many clients at once get their own pictures. `benchmarks/server.py` also measures speed, with the real network."""

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "server.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_server", BENCHMARK)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory from /proc")
def test_64_clients(benchmark):
    process, address = benchmark.start_server("bicubic")
    try:
        first = asyncio.run(benchmark.clients(address, 64, 8))
        held = benchmark.memory(process.pid)
        second = asyncio.run(benchmark.clients(address, 64, 8))
        assert benchmark.memory(process.pid) < held + 50
    finally:
        process.terminate()
        process.wait()
    for outcome in (first, second):
        assert outcome.wrong == []
        assert outcome.refused > 0
        assert len(outcome.seconds) > 16
