"""ST-LPIPS, a perceptual distance that tolerates small shifts (arXiv 2207.13686), VGG16 variant.

The weights come from the authors' wheel; its code is not used, except to test this one.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from panini.weights.downloads import STLPIPS as WHEEL
from panini.weights.downloads import fetch
from panini.weights.eight_bit import from_8bit

WIDTHS_BY_STAGE: tuple[tuple[int, ...], ...] = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class STLPIPS(nn.Module):
    """Distance of pictures [N, 3, H, W] in [-1, 1] -> [N]; 0 for equal pictures. The weights are frozen."""

    shift: Tensor
    scale: Tensor

    def __init__(self, path: Path | None = None) -> None:
        """path: the wheel of stlpips-pytorch, or a safetensors file of this module's state; None: the wheel."""
        super().__init__()
        stages, c_in = [], 3
        for widths in WIDTHS_BY_STAGE:
            layers: list[nn.Module] = []
            for width in widths:
                layers += [nn.Conv2d(c_in, width, 3, padding=1), nn.ReLU()]
                c_in = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.importance = nn.ParameterList(torch.zeros(1, w[-1], 1, 1) for w in WIDTHS_BY_STAGE)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])
        if path is not None and path.suffix == ".safetensors":
            self.load_state_dict(from_8bit(load(path.read_bytes())))
        else:
            self._load(path or fetch(WHEEL))
        self.requires_grad_(False)

    def _load(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            raw = archive.read("stlpips_pytorch/weights/vST0.0/vgg_shift_tolerant.pth")
        state = torch.load(io.BytesIO(raw), weights_only=True, map_location="cpu")
        convs = [m for m in self.stages.modules() if isinstance(m, nn.Conv2d)]
        names = [n[: -len(".weight")] for n in state if n.startswith("net.") and n.endswith(".weight")]
        with torch.no_grad():
            for conv, name in zip(convs, names, strict=True):
                conv.weight.copy_(state[f"{name}.weight"])
                assert conv.bias is not None
                conv.bias.copy_(state[f"{name}.bias"])
            for i, importance in enumerate(self.importance):
                importance.copy_(state[f"lin{i}.model.1.weight"])

    def features(self, x: Tensor, depth: int = 5) -> list[Tensor]:
        """Feature vectors of unit length after each of the first `depth` of the five stages, [N, C, h, w]."""
        x = (x - self.shift) / self.scale
        out = []
        for i, stage in enumerate(self.stages[:depth]):
            x = stage(self._halve(x) if i else x)
            out.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return out

    def before_activation(self, x: Tensor, convolution: int, stage: int) -> Tensor:
        """Output [N, C, h, w] of one convolution before its activation; both numbers count from 1."""
        x = (x - self.shift) / self.scale
        for i in range(stage - 1):
            x = self._halve(self.stages[i](x))
        layers: nn.Sequential = self.stages[stage - 1]  # type: ignore[assignment]
        return layers[: 2 * convolution - 1](x)

    def _halve(self, x: Tensor) -> Tensor:
        x = F.pad(F.max_pool2d(x, 2, 1), (2, 2, 2, 2), mode="reflect")
        return F.avg_pool2d(F.avg_pool2d(x, 2, 1), 2, 2)  # the filter 1 2 1 in both directions, with stride 2

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """The distance [N] from the features of two batches, of the same first stages."""
        distances = [
            ((fa - fb).square() * w).sum(1).mean((1, 2)) for fa, fb, w in zip(a, b, self.importance, strict=False)
        ]
        return torch.stack(distances).sum(0)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.distance(self.features(a), self.features(b))
