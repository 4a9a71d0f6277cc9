"""Say how far a run of the benchmarks is: a bar where Rich is installed and somebody watches, lines elsewhere."""

import sys
from types import TracebackType
from typing import Any


class Progress:
    """A context in which benchmarks begin and end."""

    def __init__(self, total: int) -> None:
        self._total, self._begun = total, 0
        self._bar: Any = _bar() if sys.stdout.isatty() else None
        self._task = self._bar.add_task("", total=total) if self._bar else None

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def begins(self, name: str) -> None:
        """Name the benchmark that runs now."""
        self._begun += 1
        if self._bar:
            self._bar.update(self._task, description=name)
        else:
            print(f"[{self._begun}/{self._total}] {name} ...", flush=True)

    def ends(self, line: str) -> None:
        """Count one more, and say how it went."""
        self.says(line)
        if self._bar:
            self._bar.advance(self._task)

    def says(self, text: str) -> None:
        """Print something that stays."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, flush=True)


def _bar() -> Any:
    try:
        from rich import progress
    except ImportError:
        return None
    return progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
    )
