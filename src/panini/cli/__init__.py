"""The command line: `panini.cli.main` is the entry point, `run` the same for tests and notebooks."""

from panini.cli.app import main, run

__all__ = ["main", "run"]
