"""Whether two pictures show the same person, by dlib's face embedding: offline, and only if the user installed it.

The extra `identity` brings it: dlib (Boost licence) and face_recognition_models (MIT; its networks by Davis King are in
the public domain, CC0), which carries the weights in its package.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panini.photo.pixels import Pixels

SAME = 0.6
"""Closer than that are two pictures of one person, says the network's author."""


class Identity:
    """Embeds faces in pictures aligned as FFHQ."""

    def __init__(self, folder: Path) -> None:
        import dlib

        self._dlib: Any = dlib
        self._landmarks = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        self._embed = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))

    @classmethod
    def available(cls) -> Identity | None:
        """None if it is not installed."""
        spec = find_spec("face_recognition_models")  # found, not imported: it wants an old setuptools for that
        if spec is None or not spec.submodule_search_locations or find_spec("dlib") is None:
            return None
        return cls(Path(spec.submodule_search_locations[0]) / "models")

    def distances(self, truth: Pixels, *pictures: Pixels) -> list[float]:
        """How far each of `pictures` is from `truth` (all [S, S, 3], aligned alike): 0 is the same, see `SAME`.

        Where the face's parts lie is looked up in `truth`, so that only what is there is compared.
        """
        side = truth.shape[0]
        left, top, right, bottom = (int(side * share) for share in (0.22, 0.3, 0.78, 0.86))
        shape = self._landmarks(truth, self._dlib.rectangle(left, top, right, bottom))

        def embedding(picture: Pixels) -> NDArray[np.float64]:
            chip = self._dlib.get_face_chip(np.ascontiguousarray(picture), shape, size=150, padding=0.25)
            return np.array(self._embed.compute_face_descriptor(chip))

        own = embedding(truth)
        return [float(np.linalg.norm(embedding(picture) - own)) for picture in pictures]
