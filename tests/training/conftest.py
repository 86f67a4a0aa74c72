"""Faces and small configs to train with: the preset `toy`, whose prior draws no faces, trains in seconds."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut

from panini.models.prior import ToyPrior
from panini.training.config import Hardware, Losses, Optimizer, RestorerConfig
from panini.weights.prior_wheel import WheelOrigin, write_prior

_IDENTITY = Path(os.environ.get("PANINI_IDENTITY", "../shared/reference/identity/mobilefacenet.safetensors"))


@pytest.fixture(scope="session")
def identity_file() -> Path | None:
    """The identity network's weights, which are not in the repository; $PANINI_IDENTITY says where they are."""
    return _IDENTITY if _IDENTITY.exists() else None


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of 512 pixels and one of 256."""
    folder = tmp_path_factory.mktemp("faces")
    for i in range(5):
        picture = np.ascontiguousarray(np.roll(astronaut(), (40 * i, 70 * i), (0, 1))[..., ::-1])
        cv2.imwrite(str(folder / f"{i}.png"), picture if i < 4 else cv2.resize(picture, (256, 256)))
    return folder


@pytest.fixture(scope="session")
def toy_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    write_prior(ToyPrior(), WheelOrigin("toy", "", ""), path, half=True)
    return path


@pytest.fixture
def toy_config(toy_prior: Path, faces: Path, tmp_path: Path) -> Callable[..., RestorerConfig]:
    """A config of the toy network with some fields changed."""

    def make(**changes: Any) -> RestorerConfig:
        settings: dict[str, Any] = {
            "output": str(tmp_path / "run"),
            "preset": "toy",
            "prior": str(toy_prior),
            "real": str(faces),
            "size": 128,
            "steps": 4,
            "batch": 4,
            "depth": 3,
            "compare": 64,
            "hardware": Hardware(device="cpu"),
            "optimizer": Optimizer(lr=1e-3, warmup=1, schedule="constant"),
            "losses": Losses(w=0.3, features=1.0),
        }
        return RestorerConfig(**(settings | changes))

    return make
