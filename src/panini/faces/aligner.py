"""Refines the FFHQ alignment with a small network.

The landmarks of the detector are off by a few percent of the eye distance. `tools/make_aligner.py` trains the network.
"""

from __future__ import annotations

from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.faces.align import Transform, invert, scaled, warp
from panini.onnx_session import open_network

_VIEW = 128  # pixels: side of the network's input
_SEEN = 0.72  # of the crop's side: the part that the network sees
_ITERATIONS = 3
_FARTHEST = 0.15  # of the crop's side: larger mean shifts of the corners are rejected as errors


class Aligner:
    """Refines the transform from a photo to an FFHQ crop."""

    def __init__(self, threads: int | None = None) -> None:
        """threads: see `open_network`."""
        self._session = open_network(resources.files(__package__).joinpath("aligner.onnx").read_bytes(), threads)

    def __call__(self, image: NDArray[np.uint8], transform: Transform, size: int) -> Transform:
        """Refines `transform`, which maps a photo uint8 RGB [H, W, 3] to a crop of side `size`.

        Returns it unchanged if the correction would be implausibly large.
        """
        start = scaled(transform, target=1 / size)
        better = start
        for _ in range(_ITERATIONS):
            better = self._refine(image, better)
        corners = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]]) @ invert(better).T
        moved = corners @ start[:, :2].T + start[:, 2] - [[0, 0], [1, 0], [0, 1], [1, 1]]
        return transform if np.hypot(*moved.T).mean() > _FARTHEST else scaled(better, target=size)

    def _refine(self, image: NDArray[np.uint8], transform: Transform) -> Transform:
        """Corrects a transform to a crop of side 1 once, averaged over the view and its mirror image."""
        to_view = scaled(transform, target=_VIEW / _SEEN)
        to_view = np.hstack([to_view[:, :2], to_view[:, 2:] - _VIEW * (1 / _SEEN - 1) / 2])
        view = warp(image, to_view, (_VIEW, _VIEW), border=cv2.BORDER_REFLECT_101)
        views = np.stack([view, view[:, ::-1]]).transpose(0, 3, 1, 2).astype(np.float32)
        (found,) = self._session.run(["similarity"], {"views": views})
        a, b, x, y = (found[0] + found[1] * [1, -1, -1, 1]) / 2
        # `seen` maps a point of the true crop to the current one, both relative to the center.
        linear = np.array([[1 + a, -b], [b, 1 + a]])
        seen = np.hstack([linear, np.array([[x + 0.5], [y + 0.5]]) - linear @ [[0.5], [0.5]]])
        true = invert(seen)
        return np.hstack([true[:, :2] @ transform[:, :2], true[:, :2] @ transform[:, 2:] + true[:, 2:]])
