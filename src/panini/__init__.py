"""Panini restores the faces in a photo and reports how much of each face is real."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Turns off ONNX Runtime's telemetry, which reads this when it is imported. Python imports this module before all others
# of the package.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from panini.api import Restoration, RestoredFace, RestoreOptions, Restorer, restore
    from panini.errors import NoFaceError, PaniniError

__version__ = "0.2.0"
__all__ = ["NoFaceError", "PaniniError", "Restoration", "RestoreOptions", "RestoredFace", "Restorer", "restore"]


def __getattr__(name: str) -> Any:
    """Loads the public names when they are first used, so that `import panini` is fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from panini import api, errors

    return getattr(errors if name.endswith("Error") else api, name)
