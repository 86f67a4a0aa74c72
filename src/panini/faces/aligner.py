"""Brings a roughly aligned crop to where FFHQ's alignment would have put it, with a small network of our own.

The detector's five points are some per cent of the eyes' distance off; `tools/make_aligner.py` says how the network
learnt to see by how much.
"""

from __future__ import annotations

from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.faces.align import Transform, invert, scaled, warp
from panini.onnx_session import open_network

_VIEW = 128  # px that the network sees,
_SEEN = 0.72  # and the share of the crop's side that they show
_LOOKS = 3  # each starts from where the one before ended
_FARTHEST = 0.15  # of the crop's side: what would move a corner farther than that is no face that the network knows


class Aligner:
    """Corrects the transform from a photo to an FFHQ crop."""

    def __init__(self, threads: int | None = None) -> None:
        """`threads` as of `open_network`."""
        self._session = open_network(resources.files(__package__).joinpath("aligner.onnx").read_bytes(), threads)

    def __call__(self, image: NDArray[np.uint8], transform: Transform, size: int) -> Transform:
        """`transform` takes a photo uint8 RGB [H, W, 3] to a crop of side `size`; returns a more exact one.

        The same comes back if the network does not know what it sees.
        """
        start = scaled(transform, target=1 / size)
        better = start
        for _ in range(_LOOKS):
            better = self._look(image, better)
        corners = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]]) @ invert(better).T
        moved = corners @ start[:, :2].T + start[:, 2] - [[0, 0], [1, 0], [0, 1], [1, 1]]
        return transform if np.hypot(*moved.T).mean() > _FARTHEST else scaled(better, target=size)

    def _look(self, image: NDArray[np.uint8], transform: Transform) -> Transform:
        """One correction of a transform to a crop of side 1, from the view straight and mirrored."""
        to_view = scaled(transform, target=_VIEW / _SEEN)
        to_view = np.hstack([to_view[:, :2], to_view[:, 2:] - _VIEW * (1 / _SEEN - 1) / 2])
        view = warp(image, to_view, (_VIEW, _VIEW), border=cv2.BORDER_REFLECT_101)
        views = np.stack([view, view[:, ::-1]]).transpose(0, 3, 1, 2).astype(np.float32)
        (found,) = self._session.run(["similarity"], {"views": views})
        a, b, x, y = (found[0] + found[1] * [1, -1, -1, 1]) / 2
        # A point p of the true crop lies at seen(p), both around the crop's centre.
        linear = np.array([[1 + a, -b], [b, 1 + a]])
        seen = np.hstack([linear, np.array([[x + 0.5], [y + 0.5]]) - linear @ [[0.5], [0.5]]])
        true = invert(seen)
        return np.hstack([true[:, :2] @ transform[:, :2], true[:, :2] @ transform[:, 2:] + true[:, 2:]])
