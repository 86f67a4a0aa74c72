"""Faces sampled from the prior, with the latents they were made of: the restorer learns from both."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from panini.errors import PaniniError
from panini.files import write_atomically
from panini.models.prior import Prior
from panini.photo.pixels import from_signed, resize

_QUALITY = 92


def sample_faces(
    prior: Prior,
    folder: Path,
    count: int,
    seed: int = 0,
    truncation: tuple[float, float] = (0.45, 0.9),
    size: int = 512,
) -> None:
    """Writes `count` faces NNNNN.webp of `size` pixels and `w.npy`, float32 [count, latent_dim], into a new folder.

    truncation: each face's distance from the mean one is scaled by a factor drawn from this range; the lower, the more
    ordinary. Goes on where a stopped run with the same arguments was. Raises PaniniError if the folder has
    other things.
    """
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, prior.latent_dim, generator=generator)
    factor = torch.empty(count, 1).uniform_(*truncation, generator=generator)
    device = next(prior.parameters()).device
    with torch.no_grad():
        w = prior.map(z.to(device)).cpu()
        mean = prior.map(torch.randn(4096, prior.latent_dim, generator=generator).to(device)).mean(0).cpu()
        w = mean + factor * (w - mean)
        latents = folder / "w.npy"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if latents.exists():
                if not np.array_equal(np.load(latents), w.numpy()):
                    raise PaniniError(f"{folder} holds other samples; choose a new folder")
            elif any(folder.iterdir()):
                raise PaniniError(f"{folder} is not empty; choose a new folder")
            else:
                write_atomically(latents, lambda file: np.save(file, w.numpy()))
            for i in tqdm(range(count), "faces", unit="face"):
                path = folder / f"{i:05d}.webp"
                if path.exists():
                    continue
                face = from_signed(prior(w[i][None, None].to(device).expand(-1, prior.latents, -1))[0].cpu().numpy())
                picture = cv2.cvtColor(resize(face, size, cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
                data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])[1].tobytes()
                write_atomically(path, lambda file, data=data: file.write(data))  # type: ignore[misc]
        except OSError as error:
            raise PaniniError(f"cannot write to {folder}: {error.strerror}") from error
