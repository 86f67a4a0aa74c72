"""Files that packages on PyPI carry: fetched once, kept in the user's cache, never imported."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from panini.errors import PaniniError

PRIOR = "random-face==2021.7.21.1"
STLPIPS = "stlpips-pytorch==0.0.2"


def cache_folder() -> Path:
    """$PANINI_CACHE, or `panini` in the user's cache folder."""
    base = os.environ.get("PANINI_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "panini"


def fetch_wheel(requirement: str) -> Path:
    """The wheel of `requirement` ("name==version"), downloaded by pip unless the cache has it.

    Raises PaniniError if it is neither in the cache nor to be had.
    """
    name, version = requirement.split("==")
    folder = cache_folder()
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not any(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", fresh, requirement]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = list(Path(fresh).glob("*.whl"))
            if done.returncode or not found:
                reason = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
                raise PaniniError(f"cannot download {requirement} (needed once, then kept in {folder}): {reason}")
            found[0].replace(folder / found[0].name)
    return next(folder.glob(pattern))
