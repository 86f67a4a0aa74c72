"""The validation protocol: fixed degradations, originals of 512 pixels; PSNR, SSIM and ST-LPIPS of results, inputs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from panini.errors import PaniniError
from panini.evaluation.stlpips import STLPIPS
from panini.photo.pixels import Pixels, read_rgb, resize, to_signed

TASKS = ("mfr", "sr16")


@dataclass(frozen=True)
class Scores:
    """PSNR in dB, SSIM and ST-LPIPS of one picture."""

    psnr: float
    ssim: float
    stlpips: float


@dataclass(frozen=True)
class Face:
    """One validation face: original (512 pixels), damaged input (512 for mfr, 64 for sr16) and kind of damage."""

    name: str
    task: str
    kind: str
    truth: Pixels
    given: Pixels


def load_faces(folder: Path, tasks: Iterable[str] = TASKS) -> list[Face]:
    """Reads the faces of a validation folder (`manifest.json`, `gt/`, `mfr/`, `sr16/`).

    Raises PaniniError if a file is missing or unreadable.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        kinds = {entry["name"]: {"mfr": entry["mfr"]["kind"], "sr16": "sr16", "heavy": "heavy"} for entry in manifest}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PaniniError(f"no validation set in {folder}: {error!r}") from error
    return [
        Face(
            name=name,
            task=task,
            kind=kind[task],
            truth=read_rgb(folder / "gt" / f"{name}.webp"),
            given=read_rgb(folder / task / f"{name}.png"),
        )
        for task in tasks
        for name, kind in kinds.items()
    ]


def load_truths(folder: Path) -> list[Pixels]:
    """Reads the originals of a validation folder, [512, 512, 3]; all pictures in it if it has no `gt/`.

    Raises PaniniError if there are none.
    """
    folder = folder / "gt" if (folder / "gt").is_dir() else folder
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in {".webp", ".png", ".jpg", ".jpeg"})
    if not paths:
        raise PaniniError(f"no faces in {folder}")
    return [resize(read_rgb(path), 512, cv2.INTER_AREA) for path in paths]


def enlarged(given: Pixels, side: int = 512) -> Pixels:
    """The input as it is scored, [side, side, 3]: enlarged by Pillow's bicubic, as the protocol defines it.

    OpenCV's bicubic, with which small faces are restored, scores 0.13 dB better on sr16.
    """
    if given.shape[:2] == (side, side):
        return given
    return np.asarray(Image.fromarray(given).resize((side, side), Image.Resampling.BICUBIC))


def psnr(truth: Pixels, picture: Pixels) -> float:
    """PSNR in dB; 100 for equal pictures, because infinity would spoil means."""
    return 100.0 if np.array_equal(truth, picture) else float(peak_signal_noise_ratio(truth, picture))


class Scorer:
    """Scores pictures at 512 pixels by the protocol. Holds the network of ST-LPIPS."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.stlpips = STLPIPS().eval().to(device)
        self.device = device

    @torch.inference_mode()
    def features(self, *pictures: Pixels) -> list[list[Tensor]]:
        """The ST-LPIPS features of each picture; see `STLPIPS.features`."""
        return [self.stlpips.features(torch.from_numpy(to_signed(p))[None].to(self.device)) for p in pictures]

    @torch.inference_mode()
    def __call__(
        self, truth: Pixels, *pictures: Pixels, features: Sequence[list[Tensor]] | None = None
    ) -> list[Scores]:
        """The scores of each picture against `truth`; all are uint8 RGB [H, W, 3] of the same size.

        features: those of `truth` and the pictures, if the caller has them.
        """
        features = self.features(truth, *pictures) if features is None else features
        return [
            Scores(
                psnr=psnr(truth, picture),
                ssim=float(structural_similarity(truth, picture, channel_axis=2)),
                stlpips=float(self.stlpips.distance(ours, features[0])),
            )
            for picture, ours in zip(pictures, features[1:], strict=True)
        ]


def grid(faces: Iterable[tuple[Face, Pixels]]) -> Pixels:
    """A picture with a column for each face and its result: input, result and original, 512 pixels each."""
    return np.concatenate([np.concatenate((enlarged(face.given), result, face.truth)) for face, result in faces], 1)
