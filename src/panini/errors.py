"""What a user did that cannot work. Each becomes one line on stderr and the exit code of its class."""

from __future__ import annotations


class PaniniError(Exception):
    """Bad input, an unwritable output, a missing extra: the message is for the user."""

    exit_code = 2


class NoFaceError(PaniniError):
    """A photo in which no face was found."""

    exit_code = 3


class SomeFailedError(PaniniError):
    """Some files of a folder failed; the others are done."""

    exit_code = 1


class StoppedError(PaniniError):
    """The user stopped it; what was finished is kept."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    """Of what an error says; its kind if it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def how_to_get(extra: str) -> str:
    """The command that adds an extra of ours. Not by our name: on PyPI, "panini" is a stranger's."""
    return f"pip install '.[{extra}]' in Panini's own folder"
