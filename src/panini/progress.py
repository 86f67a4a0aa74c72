"""A progress bar on stderr. Without a terminal, prints a line every half minute."""

from __future__ import annotations

from time import perf_counter

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

INTERVAL = 30.0  # seconds between two lines without a terminal


class Bar(Progress):
    """Shows the finished work and the remaining time."""

    def __init__(self, console: Console, *, transient: bool = False) -> None:
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("so far,"), TimeRemainingColumn(), TextColumn("left"),
        )  # fmt: skip
        super().__init__(*columns, console=console, disable=not console.is_terminal, transient=transient)
        self._told = perf_counter()
        self._first: dict[TaskID, tuple[float, int]] = {}

    def reached(self, task: TaskID, done: int, of: int) -> None:
        """Updates a task. of: the total; 0: unknown."""
        self.update(task, completed=done, total=of or None)
        now = perf_counter()
        began, before = self._first.setdefault(task, (now, done))
        if self.disable and now - self._told >= INTERVAL:
            self._told = now
            left = f", {(now - began) / (done - before) * (of - done) / 60:.1f} min left" if before < done < of else ""
            text = f"panini: {self.tasks[task].description}: {done} {f'of {of}' if of else 'so far'}{left}"
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
