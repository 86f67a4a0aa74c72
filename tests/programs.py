"""Programs that tests look at files and system calls with."""

import shutil

import pytest


def needed(tool: str) -> str:
    """The path of a program that a test needs; without it the test is skipped. `.ci/run` installs them all."""
    path = shutil.which(tool)
    return path or pytest.skip(f"{tool} is not installed")
