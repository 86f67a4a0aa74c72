"""Trains `src/panini/faces/aligner.onnx`: `make_aligner.py FOLDER_OF_SAMPLES [--real FOLDER_OF_TARS] [--minutes 15]`.

The detector leaves a crop some per cent off. This small network looks at the middle of such a crop and says
where the true one lies, as the similarity [a, b, x, y]: a point p of the true crop (its center 0, its side 1) lies at
(1 + a) p + b p' + (x, y) in the crop seen, with p' = (-p_y, p_x). It learns from faces that are aligned by construction
(samples of the GAN prior, which paints faces where FFHQ's alignment laid them), turned, moved, scaled and damaged at
random. Real faces, aligned by some detector and so a few per cent off themselves, then teach it what life looks like:
half-way, the young network says of each where its true crop lies, and learns on with them.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from half_precision import halve_weights
from numpy.typing import NDArray
from torch import Tensor, nn

TARGET = Path(__file__).parents[1] / "src/panini/faces/aligner.onnx"
SIDE = 256  # of the faces kept in memory
VIEW = 128  # px that the network sees,
SEEN = 0.72  # and the share of the crop's side that they show: never what lies beyond a sample's border
HELD_OUT = 150
CORNERS = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])


def convolution(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two 3x3 convolutions around which the input passes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(channels, channels), convolution(channels, channels)[:2])

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class Aligner(nn.Module):
    """uint8-valued RGB [N, 3, 128, 128] in [0, 255] -> [N, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            convolution(3, 16, 2, 5), convolution(16, 24, 2), convolution(24, 32), convolution(32, 48, 2), Residual(48),
            convolution(48, 64, 2), Residual(64), nn.Conv2d(64, 32, 1), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(32 * 64, 96), nn.ReLU(), nn.Linear(96, 4))
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3), keepdim=True)
        spread = (images - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
        return 0.1 * self.head(self.trunk((images - mean) / (spread + 8)))


def corners(similarity: Tensor) -> Tensor:
    """Where the true crop's corners [N, 4, 2] lie."""
    a, b, x, y = similarity[:, None].unbind(-1)
    px, py = CORNERS.unbind(-1)
    return torch.stack([(1 + a) * px - b * py + x, (1 + a) * py + b * px + y], -1)


def draw(
    face: NDArray[np.uint8], rng: np.random.Generator, tight: float, damaged: bool = True
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A view [128, 128, 3] of a face [256, 256, 3], and the similarity to be found in it."""
    if damaged and rng.random() < 0.5:
        face = face[:, ::-1]
    zoom = np.exp(np.clip(rng.normal(0, 0.06), -0.16, 0.16) * tight)
    turn = np.deg2rad(np.clip(rng.normal(0, 5), -14, 14)) * tight
    x, y = np.clip(rng.normal(0, 0.03, 2), -0.08, 0.08) * tight
    a, b = zoom * np.cos(turn), zoom * np.sin(turn)
    linear = np.array([[a, -b], [b, a]])
    # Face pixels (center 0, side 1) -> view pixels.
    scale = VIEW / SEEN
    there = np.hstack([linear * scale / SIDE, np.array([[x * scale], [y * scale]])])
    there[:, 2] += VIEW / 2 - 0.5 - there[:, :2] @ [SIDE / 2 - 0.5, SIDE / 2 - 0.5]
    view = cv2.warpAffine(face, there, (VIEW, VIEW), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return damage(view, rng) if damaged else view, np.array([a - 1, b, x, y], np.float32)


def damage(view: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    if rng.random() < 0.5:
        side = int(np.exp(rng.uniform(np.log(14), np.log(VIEW))))
        small = cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA)
        view = cv2.resize(small, (VIEW, VIEW), interpolation=int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])))
    if rng.random() < 0.3:
        view = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.3, 4))
    values = view.astype(np.float32)
    if rng.random() < 0.25:
        values = np.repeat(values.mean(2, keepdims=True), 3, 2) * rng.uniform(0.8, 1.2, 3 if rng.random() < 0.5 else 1)
    values = (
        255 * np.clip(values / 255, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.25))) * np.float32(rng.uniform(0.6, 1.2))
    )
    if rng.random() < 0.3:  # light from one side
        ramp = np.linspace(-1, 1, VIEW, dtype=np.float32) * rng.uniform(-0.5, 0.5)
        values *= (1 + (ramp[:, None] if rng.random() < 0.5 else ramp))[..., None]
    if rng.random() < 0.4:
        noise = rng.standard_normal(values.shape if rng.random() < 0.5 else (VIEW, VIEW, 1), np.float32)
        values += noise * rng.uniform(1, 25)
    if rng.random() < 0.15:  # partly covered
        x, y, w, h = rng.integers(0, VIEW, 2).tolist() + rng.integers(10, 60, 2).tolist()
        values[y : y + h, x : x + w] = rng.uniform(0, 255, 3)
    view = np.clip(values, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        encoded = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 90))])[1]
        view = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return view


def read_face(data: bytes) -> NDArray[np.uint8]:
    face = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def read_tars(folder: Path) -> list[NDArray[np.uint8]]:
    faces = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            faces += [read_face(tar.extractfile(member).read()) for member in tar if member.name.endswith(".webp")]
    return faces


@torch.inference_mode()
def straighten(network: Aligner, face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A face [256, 256, 3] that is roughly aligned, brought to where the network sees the true crop."""
    rng = np.random.default_rng(0)
    drawn = [draw(face, rng, 0.5, damaged=False) for _ in range(5)]
    views = torch.from_numpy(np.stack([view for view, _ in drawn])).permute(0, 3, 1, 2).float()
    seen = [matrix(s) for s in network(views).double().numpy()]
    known = [matrix(s) for _, s in drawn]
    # known: face -> view; seen: true crop -> view.
    true = np.mean([np.linalg.solve(k, s) for k, s in zip(known, seen, strict=True)], axis=0)[:2]
    true[:, 2] = true[:, 2] * SIDE + (SIDE / 2 - 0.5) - true[:, :2] @ [SIDE / 2 - 0.5, SIDE / 2 - 0.5]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(face, true, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def matrix(similarity: NDArray[np.floating]) -> NDArray[np.float64]:
    a, b, x, y = similarity
    return np.array([[1 + a, -b, x], [b, 1 + a, y], [0, 0, 1]], np.float64)


def batch(faces: list[NDArray[np.uint8]], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    drawn = [draw(face, rng, 1.0 if rng.random() < 0.6 else 0.3) for face in faces]
    views, targets = (np.stack(list(part)) for part in zip(*drawn, strict=True))
    return torch.from_numpy(views).permute(0, 3, 1, 2).float(), torch.from_numpy(targets)


def train(prior: list, real: list, minutes: float, threads: int, share: float) -> Aligner:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    network = Aligner().to(memory_format=torch.channels_last)
    print(sum(p.numel() for p in network.parameters()), "parameters")
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
    )
    start, step, seen = time.perf_counter(), 0, 0.0
    labeled: list[NDArray[np.uint8]] = []
    while (done := (time.perf_counter() - start) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, step / 100) * (0.5 * (1 + np.cos(np.pi * done)) + 0.002)
        if real and not labeled and done > 0.4:
            network.eval()
            labeled = [straighten(average.module, face) for face in real]
            network.train()
        real_count = int(64 * share) if labeled else 0
        faces = [prior[i] for i in rng.integers(len(prior), size=64 - real_count)]
        faces += [labeled[i] for i in rng.integers(len(labeled), size=real_count)] if labeled else []
        views, targets = batch(faces, rng)
        error = (corners(network(views)) - corners(targets)).norm(dim=-1).mean(-1)
        loss = error.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
        step, seen = step + 1, 0.98 * seen + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"step {step}, {100 * done:.0f} %, error {seen:.4f} of the side", flush=True)
    return average.module.eval()


@torch.inference_mode()
def report(network: Aligner, faces: list, name: str) -> None:
    rng = np.random.default_rng(1)
    views, targets = batch([face for face in faces for _ in range(3)], rng)
    error = 4 * (corners(network(views)) - corners(targets)).norm(dim=-1).mean(-1)  # of the eyes' distance
    print(
        f"{name}: one look, damaged: median {error.median():.3f}, p95 {error.quantile(0.95):.3f} of the eyes' distance"
    )


def export(network: Aligner, path: Path) -> None:
    """Writes the network as ONNX, with its weights in half precision."""
    buffer = io.BytesIO()
    torch.onnx.export(
        network, (torch.zeros(2, 3, VIEW, VIEW),), buffer, input_names=["views"], output_names=["similarity"],
        dynamic_axes={"views": {0: "n"}, "similarity": {0: "n"}}, opset_version=17, dynamo=False,
    )  # fmt: skip
    model = onnx.load_from_string(buffer.getvalue())
    halve_weights(model.graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    print(path, path.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("prior", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=TARGET)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    prior = [read_face(path.read_bytes()) for path in sorted(arguments.prior.rglob("*.webp"))]
    real = read_tars(arguments.real) if arguments.real else []
    print(len(prior), "sampled,", len(real), "real")
    network = train(prior[HELD_OUT:], real[200:], arguments.minutes, arguments.threads, arguments.share)
    report(network, prior[:HELD_OUT], "sampled, held out")
    if real:
        report(network, real[:200], "real, held out")
    export(network, arguments.output)


if __name__ == "__main__":
    main()
