"""The README's commands are the ones that CI runs and that exist."""

import re
from pathlib import Path

from panini.cli import run

ROOT = Path(__file__).parents[1]


def test_ci_runs_the_readmes_test_command() -> None:
    tests = (ROOT / "README.md").read_text().split("## Tests")[1]
    (command,) = re.findall(r"```sh\n(.+)\n```", tests)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_verb_of_the_readme_exists(capsys) -> None:  # type: ignore[no-untyped-def]
    verbs = set(re.findall(r"^panini (\S+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert verbs >= {"restore", "evaluate", "train"}
    for verb in verbs:
        assert run([verb, "--help"]) == 0, verb
    assert "Usage" in capsys.readouterr().out
