"""Errors with a message for the user. The command line prints it on one line and exits with `exit_code`.

PaniniError              2: bad input, unwritable output, a missing extra
├── NoFaceError          3: no face in a photo
├── SomeFailedError      1: some of several files failed
└── StoppedError       130: stopped by the user
"""

from __future__ import annotations


class PaniniError(Exception):
    """An error that the user can fix: bad input, an unwritable output, a missing extra."""

    exit_code = 2


class NoFaceError(PaniniError):
    """No face was found in a photo."""

    exit_code = 3


class SomeFailedError(PaniniError):
    """Some of several files failed. The others are done."""

    exit_code = 1


class StoppedError(PaniniError):
    """The user stopped the work. Finished files are kept."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class name if it has no message."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def one_line(text: object) -> str:
    """A text without line breaks. For an OSError, its message without the path."""
    if isinstance(text, OSError) and text.strerror:
        text = text.strerror
    return " ".join(str(text).split()) or type(text).__name__


def how_to_get(extra: str) -> str:
    """The command that installs an extra. The package named `panini` on PyPI is another project."""
    return f"pip install '.[{extra}]' in the Panini folder"
