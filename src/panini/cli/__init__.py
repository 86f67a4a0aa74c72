"""The command line. `main` is the entry point; `run` returns the exit code, for tests and notebooks."""

from panini.cli.app import main, run

__all__ = ["main", "run"]
