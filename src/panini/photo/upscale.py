"""Enlarges photos with an ONNX super-resolution network that the user provides, such as Real-ESRGAN."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np

from panini.errors import PaniniError
from panini.onnx_session import open_network
from panini.photo.pixels import Pixels

_TILE = 256  # pixels: side of a tile, which bounds memory
_MARGIN = 16  # pixels around each tile that the network also sees


class Upscaler:
    """Runs a super-resolution network tile by tile. Its input and output are RGB [1, 3, H, W] in [0, 1]."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """Raises PaniniError if the file is not such a network. threads: see `open_network`."""
        if not path.is_file():
            raise PaniniError(f"{path} is not a file")
        try:
            self._session = open_network(path, threads)
            (self._input,) = self._session.get_inputs()
            side = self._input.shape[-1]
            self._side = side if isinstance(side, int) else _TILE  # some networks take a single size
            made = self._run(np.zeros((self._side, self._side, 3), np.uint8))
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            reason = str(error).rsplit(" : ", 1)[-1]  # error codes come first
            raise PaniniError(f"{path} is not an ONNX super-resolution network: {reason}") from error
        self._factor = made.shape[0] / self._side
        if made.shape[0] != made.shape[1] or self._factor not in (2, 3, 4, 8):
            raise PaniniError(f"{path} must enlarge by 2, 3, 4 or 8, not {self._factor:g}")

    def __call__(self, pixels: Pixels, scale: int) -> Pixels:
        """Enlarges `pixels` [H, W, 3] RGB by a factor of `scale`."""
        height, width = pixels.shape[:2]
        step = self._side - 2 * _MARGIN
        bottom, right = (-height % step, -width % step)
        padded = np.pad(pixels, ((_MARGIN, _MARGIN + bottom), (_MARGIN, _MARGIN + right), (0, 0)), "edge")
        result = np.empty((height * scale, width * scale, 3), np.uint8)
        for y, x in itertools.product(range(0, height, step), range(0, width, step)):
            made = self._run(padded[y : y + self._side, x : x + self._side])
            if self._factor != scale:
                side = self._side * scale
                way = cv2.INTER_AREA if scale < self._factor else cv2.INTER_CUBIC
                made = np.asarray(cv2.resize(made, (side, side), interpolation=way), np.uint8)
            part = result[y * scale : (y + step) * scale, x * scale : (x + step) * scale]
            inner = made[_MARGIN * scale :, _MARGIN * scale :]
            part[:] = inner[: part.shape[0], : part.shape[1]]
        return result

    def _run(self, tile: Pixels) -> Pixels:
        kind = np.float16 if "float16" in self._input.type else np.float32
        tensor = (tile.transpose(2, 0, 1)[None] / 255).astype(kind)
        (made,) = self._session.run(None, {self._input.name: tensor})
        return np.rint(np.clip(made[0].astype(np.float32), 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
