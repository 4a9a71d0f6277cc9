"""A folder of finished results, a small JSON file each, that knows which of them still hold."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast, final
from urllib.parse import quote

import torch

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.experiments import registry
from auxilearn.experiments.harness._code import code_of
from auxilearn.experiments.harness._experiment import Experiment, Result, Table

TUNING = 100
"""Seeds from here on are for tuning: unless they are asked for, they are not shown."""


class Job(NamedTuple):
    """One run: a method on the task of a seed.

    Attributes:
        experiment: The experiment's name in the registry.
        cell: The cell's name.
        method: The method's name.
        seed: The seed.
    """

    experiment: str
    cell: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.cell} / {self.method} / seed {self.seed}"


@final
@dataclass(frozen=True)
class Store:
    """Results in a folder: ``experiment/cell/method/seed.json``.

    A result holds while the code that can change it, and torch's version, are those that it was computed with. Others
    are *stale*: they count as absent, and are replaced when the job runs again.

    Attributes:
        folder: Where the results are; it is made when the first one is kept.
        trust: Take stale results too: the caller vouches that what has changed since does not matter to them.

    Example:
        >>> import tempfile
        >>> store = Store(Path(tempfile.mkdtemp()))
        >>> store.seconds(Job("harmful", "a cell", "a method", 0)) is None
        True
    """

    folder: Path
    trust: bool = False

    def get(self, job: Job) -> Result | None:
        """Read a result.

        Args:
            job: The run.

        Returns:
            The result, or None if there is none that holds.
        """
        entry = self._read(job)
        if entry is None or not (self.trust or entry["key"] == _key(job)):
            return None
        return Result(entry["score"], entry["seconds"], entry["details"])

    def stale(self, name: str, table: Table) -> int:
        """Count the results of a table that are stale, which are there only if they are trusted.

        Args:
            name: The experiment's name in the registry.
            table: Its results.

        Returns:
            How many there are.
        """
        jobs = (
            Job(name, c, m, seed) for c, methods in table.items() for m, results in methods.items() for seed in results
        )
        return sum((entry := self._read(job)) is not None and entry["key"] != _key(job) for job in jobs)

    def put(self, job: Job, result: Result) -> None:
        """Keep a result. It is there whole or not at all.

        Args:
            job: The run.
            result: What it returned, checked by :func:`checked`.
        """
        file = self.file(job)
        file.parent.mkdir(parents=True, exist_ok=True)
        entry = {**job._asdict(), "key": _key(job), "torch": torch.__version__}
        entry |= {"score": result.score, "seconds": result.seconds, "details": dict(result.details)}
        partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
        try:
            partial.write_text(json.dumps(entry), encoding="utf-8")
            partial.replace(file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def seconds(self, job: Job) -> float | None:
        """Guess how long a job will take, from finished seeds of the same cell and method, stale or not.

        Args:
            job: The run.

        Returns:
            Their mean in seconds, or None if there are none.
        """
        times = [entry["seconds"] for seed in self._seeds(job) if (entry := self._read(job._replace(seed=seed)))]
        return sum(times) / len(times) if times else None

    def table(self, name: str, experiment: Experiment, seeds: Sequence[int] | None = None) -> Table:
        """Collect the results of an experiment that hold.

        Args:
            name: The experiment's name in the registry.
            experiment: The experiment.
            seeds: The seeds to look for. None: all that are there, but for those from :data:`TUNING` on.

        Returns:
            The results; cells and methods without any are left out.
        """
        table: dict[str, dict[str, dict[int, Result]]] = {}
        for cell in experiment.cells:
            for method in cell.methods:
                job = Job(name, cell.name, method, 0)
                wanted = [s for s in self._seeds(job) if s < TUNING] if seeds is None else seeds
                found = {seed: result for seed in wanted if (result := self.get(job._replace(seed=seed)))}
                if found:
                    table.setdefault(cell.name, {})[method] = found
        return table

    def file(self, job: Job) -> Path:
        """Say where a result is, or would be.

        Args:
            job: The run.

        Returns:
            The file.
        """
        return self.folder_of(job.experiment).joinpath(_safe(job.cell), _safe(job.method), f"{job.seed}.json")

    def folder_of(self, name: str) -> Path:
        """Say where everything of an experiment is.

        Args:
            name: The experiment's name in the registry.

        Returns:
            The folder.
        """
        return self.folder / _safe(name)

    def refuse_unwritable(self) -> None:
        """Make the folder, and see that it can be written to, before hours are spent on results that it must keep.

        Raises:
            InputError: If it cannot.
        """
        probe = self.folder / f".{os.getpid()}.partial"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            rule, cure = "The results must go to a folder that can be written.", "Choose another with --out."
            raise InputError(explain(rule, f"{error}.", cure)) from None

    def _seeds(self, job: Job) -> list[int]:
        return sorted(int(file.stem) for file in self.file(job).parent.glob("*.json") if file.stem.isdecimal())

    def _read(self, job: Job) -> dict[str, Any] | None:
        try:
            entry = json.loads(self.file(job).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return None
        # A file that something else has broken is as good as none.
        whole = isinstance(entry, dict) and entry.keys() >= {"key", "score", "seconds", "details"}
        return cast("dict[str, Any]", entry) if whole else None


def checked(found: object) -> Result:
    """Refuse what cannot be kept.

    Args:
        found: What a method returned.

    Returns:
        The same.

    Raises:
        InputError: If it is no ``Result``, its numbers are not finite, or JSON cannot hold its details.
    """
    rule = "A method must return a `Result` with a finite score, finite seconds, and details that JSON can hold."
    if not isinstance(found, Result):
        raise InputError(explain(rule, f"It returned a `{type(found).__name__}`.", "Return `Result(...)`."))
    for name, value in (("score", found.score), ("seconds", found.seconds)):
        # NaN compares as false.
        if not isinstance(cast("object", value), (int, float)) or not abs(value) < float("inf"):
            raise InputError(explain(rule, f"`{name}` is {value!r}.", "Look for the loss that diverged."))
    try:
        json.dumps(dict(found.details))
    except (TypeError, ValueError) as error:
        raise InputError(explain(rule, f"{error}.", "Convert tensors by `.tolist()`.")) from None
    return found


def _key(job: Job) -> str:
    module = registry.place(job.experiment).partition(":")[0]
    settings = json.dumps([*job, torch.__version__, code_of(module)])
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def _safe(name: str) -> str:
    # Readable and reversible: only what a file's name must not hold is escaped. Dots alone would be another folder.
    return quote(name, safe=" ,()+=") if name.strip(".") else name.replace(".", "%2E")
