"""MobileFaceNet (arXiv 1804.07573), a small differentiable face network, for an identity loss.

The user provides the weights (config field `identity`): `foamliu/MobileFaceNet`, with batch norms folded into the
convolutions. Scores use another network (`panini.evaluation.identity`), because this one is a training loss.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from panini.errors import PaniniError, first_line
from panini.training.config import RestorerConfig

SIDE = 112
_SCALE, _SHIFT = 0.29209, (-18.928, -17.862)
"""Scale and shift (x, y) from an FFHQ-aligned face of 512 pixels to the network's 112, fitted to the five landmarks."""
_STRIDES = (2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1)


def identity_of(config: RestorerConfig) -> MobileFaceNet | None:
    """The identity network that the config names; None if no loss needs it. Raises PaniniError if it has no name."""
    if not config.losses.identity:
        return None
    if not config.identity:
        raise PaniniError("losses.identity needs the file of the identity network: identity=…")
    return MobileFaceNet(Path(config.identity))


class MobileFaceNet(nn.Module):
    """FFHQ-aligned faces [N, 3, S, S] in [-1, 1] -> embeddings [N, 128] of unit length; compare by cosine.

    The weights are frozen. Raises PaniniError if `path` is not the weights file.
    """

    affine: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            tensors = load(path.read_bytes())
            for name, tensor in tensors.items():
                self.register_buffer(name.replace(".", "_"), tensor.float())
            self._conv(torch.zeros(1, 3, SIDE, SIDE), "stem", 2)
        except (OSError, SafetensorError, AttributeError, RuntimeError) as error:
            raise PaniniError(f"cannot read the identity network {path}: {first_line(error)}") from error
        scale = 1 / (512 * _SCALE)  # one pixel of 112, relative to the side
        rows = [
            [SIDE * scale, 0.0, (SIDE - 2 * _SHIFT[0]) * scale - 1],
            [0.0, SIDE * scale, (SIDE - 2 * _SHIFT[1]) * scale - 1],
        ]
        self.register_buffer("affine", torch.tensor([rows]))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def _conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 1) -> Tensor:
        name = name.replace(".", "_")
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        padding = padding if weight.shape[-1] > 1 else 0
        return F.conv2d(x, weight, bias, stride, padding, groups=x.shape[1] // weight.shape[1])

    def forward(self, faces: Tensor) -> Tensor:
        return self.embed(((self.crop(faces) + 1) / 2 - self.mean) / self.deviation)

    def crop(self, faces: Tensor) -> Tensor:
        """[N, 3, S, S] -> [N, 3, 112, 112]: the crop that the network expects."""
        places = F.affine_grid(self.affine.expand(len(faces), -1, -1), [len(faces), 3, SIDE, SIDE], align_corners=False)
        return F.grid_sample(faces.float(), places, align_corners=False)

    def embed(self, x: Tensor) -> Tensor:
        """Normalized pictures [N, 3, 112, 112] -> [N, 128]."""
        x = F.relu6(self._conv(x, "stem", 2))
        x = F.relu(self._conv(x, "stem_depthwise"))
        x = F.relu(self._conv(x, "stem_pointwise"))
        for i, stride in enumerate(_STRIDES):
            y = F.relu6(self._conv(x, f"blocks.{i}.expand"))
            y = F.relu6(self._conv(y, f"blocks.{i}.depthwise", stride))
            y = self._conv(y, f"blocks.{i}.project")
            x = x + y if x.shape == y.shape else y
        x = self._conv(F.relu6(self._conv(x, "last")), "pool", padding=0)
        return F.normalize(self._conv(x, "embed").flatten(1), dim=1)
