"""Faces per second on a GPU in PyTorch: bf16, channels last, with CUDA graphs, and with `torch.compile`.

    python benchmarks/gpu.py [--weights FILE] [--device cuda|cpu] [--batches 1,8,64] [--seconds N] [--ways plain,graph]

FILE is a weights file or a checkpoint of a run. A face includes the degradation representation: 512 pixels in, 1024
out. The faces are on the device already. The error is the largest difference to float32 for a few blurred pictures, in
units of 1/255. On the CPU, `graph` runs as `plain`; try `--device cpu --batches 1 --ways plain --seconds 1`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.weights import DEFAULT
from panini.weights.checkpoint import load_training_state, load_weights

Run = Callable[[Tensor], Tensor]


class Whole(nn.Module):
    """Faces [N, 3, S, S] -> restored faces, computed in `dtype`. v_DR is computed in float32, because it is small."""

    def __init__(self, weights: Path, dtype: torch.dtype) -> None:
        super().__init__()
        checkpoint = weights.suffix != ".safetensors"
        self.network = load_training_state(weights, "default") if checkpoint else load_weights(weights)
        self.dtype = dtype

    def forward(self, faces: Tensor) -> Tensor:
        v = self.network.dre(faces)
        with torch.autocast(faces.device.type, self.dtype, enabled=self.dtype != torch.float32):
            restored: Tensor = self.network(faces, v, v)
        return restored.float()


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def with_graph(run: Run, faces: Tensor) -> Run:
    """Records `run` as a CUDA graph for the shape of `faces`."""
    if faces.device.type != "cuda":
        return run
    given = faces.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run(given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = run(given)

    def replay(faces: Tensor) -> Tensor:
        given.copy_(faces)
        graph.replay()
        return made

    return replay


def faces_per_second(run: Run, faces: Tensor, seconds: float) -> float:
    device = faces.device.type
    for _ in range(2):
        run(faces)
    wait(device)
    start, done = perf_counter(), 0
    while perf_counter() - start < seconds:
        run(faces)
        wait(device)
        done += len(faces)
    return done / (perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=DEFAULT)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--batches", default="1,8,64")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--ways", default="plain,graph,compile")
    arguments = parser.parse_args()

    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    whole = Whole(arguments.weights, torch.float32).to(arguments.device).eval()
    side = whole.network.input_size
    noise = torch.rand(max(map(int, arguments.batches.split(","))), 3, 16, 16, device=arguments.device)
    pictures = F.interpolate(noise * 2 - 1, (side, side), mode="bicubic").clamp(-1, 1)
    with torch.no_grad():
        exact = whole(pictures[:1])
        whole.dtype = torch.bfloat16
        whole.to(memory_format=torch.channels_last)
        error = (whole(pictures[:1]) - exact).abs().max().item() * 127.5
        print(f"bf16 differs by up to {error:.2f} of 255\n| batch | way | faces per second |\n| --- | --- | --- |")
        for size in map(int, arguments.batches.split(",")):
            faces = pictures[:size].to(memory_format=torch.channels_last)
            ways: dict[str, Callable[[], Run]] = {
                "plain": lambda: whole,
                "graph": lambda faces=faces: with_graph(whole, faces),
                "compile": lambda: torch.compile(whole, mode="max-autotune"),
            }
            for way in arguments.ways.split(","):
                rate = faces_per_second(ways[way](), faces, arguments.seconds)
                print(f"| {size} | {way} | {rate:.2f} |", flush=True)


if __name__ == "__main__":
    main()
