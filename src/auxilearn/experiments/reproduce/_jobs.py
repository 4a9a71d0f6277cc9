"""The runs of a reproduction: which there are, where they are kept, which are finished, and how one is run."""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, final
from urllib.parse import quote

import torch

from auxilearn._checks import explain
from auxilearn.data.published import require_files
from auxilearn.errors import AuxilearnError, InputError
from auxilearn.experiments.harness._code import code_of
from auxilearn.experiments.harness._plan import named_methods
from auxilearn.experiments.reproduce._fingerprint import fingerprint
from auxilearn.experiments.reproduce._place import Place, Progress
from auxilearn.experiments.reproduce._recipe import NONE, Budget, Changes
from auxilearn.experiments.reproduce._registry import REPRODUCTIONS
from auxilearn.experiments.reproduce._reproduction import PaperCell, Reproduction, Setup


@final
@dataclass(frozen=True)
class Run:
    """A method on the task of a seed.

    Attributes:
        cell: The setting.
        method: The method's name.
        seed: The seed.
    """

    cell: PaperCell
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.cell.name} / {self.method} / seed {self.seed}"


@final
@dataclass(frozen=True)
class Shelf:
    """The folder of one reproduction and budget: a folder for each cell, method and seed.

    A result holds while the code that can change it, its settings and torch's version are those that it was computed
    with; others are run again.

    Attributes:
        folder: Everything is below it.
        budget: Which hyperparameters.
        trust: Take results of older code too: the caller vouches that the change does not matter.
        changes: Hyperparameters that differ from the recipe; they have a folder of their own.
        pretrained: A file with weights of the backbone; so has each.
    """

    folder: Path
    budget: Budget
    trust: bool = False
    changes: Changes = field(default_factory=dict[str, str])
    pretrained: Path | None = None

    def of(self, reproduction: Reproduction) -> Path:
        """Say where everything of a reproduction is.

        Args:
            reproduction: The reproduction.

        Returns:
            The folder.
        """
        words = [self.budget, *(f"{name}={word}" for name, word in sorted(self.changes.items()))]
        if self.pretrained is not None:
            words.append(f"pretrained={self.pretrained.name}")
        return self.folder / reproduction.name / _safe(", ".join(words))

    def place(self, reproduction: Reproduction, run: Run) -> Path:
        """Say where a run is, or would be.

        Args:
            reproduction: Its reproduction.
            run: The run.

        Returns:
            The folder.
        """
        return self.of(reproduction) / _safe(run.cell.name) / _safe(run.method) / f"seed-{run.seed}"

    def metrics(self, reproduction: Reproduction, run: Run, mark: str | None = None) -> Mapping[str, float] | None:
        """Read what a run measured.

        Args:
            reproduction: Its reproduction.
            run: The run.
            mark: The fingerprint of the data that are meant; None: of any.

        Returns:
            Values by the metric's name; None if there are none that hold, or the file is broken.
        """
        found = Place(self.place(reproduction, run), run.seed).read_result() or {}
        metrics: object = found.get("metrics")
        if not (self.trust or found.get("key") == _key(reproduction, run, self)):
            return None
        if mark is not None and found.get("data") != mark:
            return None
        if not isinstance(metrics, dict):
            return None
        values = cast("dict[str, object]", metrics)
        whole = all(isinstance(values.get(metric.name), float) for metric in run.cell.metrics)
        return cast("dict[str, float]", values) if whole else None


@final
@dataclass(frozen=True)
class Bench:
    """What runs are run with.

    Attributes:
        data: The folder of the published data; None if nothing is to be run.
        device: Where networks live.
    """

    data: Path | None
    device: torch.device

    def folder(self, reproduction: Reproduction) -> Path:
        """Return the folder of the data, with everything in it.

        Args:
            reproduction: Whose data.

        Returns:
            The folder.

        Raises:
            InputError: If there is none, or a file is missing; the message says where to get it.
        """
        if self.data is None:
            rule, finding = f"{reproduction.title} needs its published data.", "No folder was given."
            cure = f"Pass --data DIR, or write a miniature: `auxilearn make-miniature {reproduction.name} DIR`."
            raise InputError(explain(rule, finding, cure))
        require_files(self.data, reproduction.files, data=reproduction.title)
        return self.data

    def mark(self) -> str | None:
        """Return the fingerprint of the data.

        Returns:
            The fingerprint; None without data.
        """
        return None if self.data is None else fingerprint(self.data)


def runs_of(
    reproduction: Reproduction,
    *,
    cells: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int] | None,
    budget: Budget,
    changes: Changes = NONE,
) -> list[Run]:
    """List the runs that were asked for, seed by seed, so that an early stop leaves whole pairs.

    Args:
        reproduction: The reproduction.
        cells: Parts of the names of its cells; empty: all.
        methods: Names of methods, or lists of them with commas; empty: all. A cell that lacks one does without.
        seeds: The seeds; None: as many as the recipe says.
        budget: Whose recipe.
        changes: Hyperparameters that differ from it.

    Returns:
        The runs.

    Raises:
        InputError: If a name fits nothing.
    """
    known = list(dict.fromkeys(method for cell in reproduction.cells for method in cell.methods))
    wanted = named_methods(reproduction.name, known, methods)
    chosen = [cell for cell in reproduction.cells if not cells or any(part in cell.name for part in cells)]
    lost = [part for part in cells if not any(part in cell.name for cell in reproduction.cells)]
    if lost:
        names = ", ".join(f"`{cell.name}`" for cell in reproduction.cells)
        rule = f"A cell of `{reproduction.name}` must be meant."
        raise InputError(explain(rule, f"None has {lost[0]!r} in its name.", f"There are: {names}."))
    found: list[Run] = []
    for cell in chosen:
        numbers = range(cell.recipe.of(budget, changes).seeds) if seeds is None else seeds
        found += [Run(cell, m, seed) for seed in numbers for m in cell.methods if m in wanted]
    if not found:
        rule, finding = "There must be something to run.", "None of the chosen cells has one of the chosen methods."
        raise InputError(explain(rule, finding, "Choose others, or leave --cell or --method out."))
    return found


def carry_out(reproduction: Reproduction, run: Run, shelf: Shelf, bench: Bench, progress: Progress) -> None:
    """Run a run, or what is left of it, and keep its result.

    Args:
        reproduction: Its reproduction.
        run: The run.
        shelf: Where it is kept.
        bench: What it is run with.
        progress: Is told of every step.

    Raises:
        InputError: If a metric is not finite, or whatever the method raises.
        UnreadableError: If the data cannot be read, which is then the same for every run.
    """
    folder = shelf.place(reproduction, run)
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, run.seed, progress)
    splits = shelf.of(reproduction) / "splits" / _safe(run.cell.name)
    setup = Setup(
        bench.folder(reproduction), shelf.budget, run.seed, bench.device, splits, shelf.pretrained, shelf.changes
    )
    task = _task(run, setup)
    resumed = (folder / "checkpoint.pt").exists()
    start = time.perf_counter()
    with _seeded(run.seed):
        outcome = run.cell.methods[run.method](task, place)
    seconds = time.perf_counter() - start
    metrics = {name: float(value) for name, value in run.cell.measure(task, outcome.model.eval()).items()}
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        rule = "Every metric must be finite."
        raise InputError(explain(rule, f"`{broken[0]}` is {metrics[broken[0]]}.", "Look at the run's curve."))
    place.keep_model(outcome.model)
    place.keep_result(
        {
            "key": _key(reproduction, run, shelf),
            "data": bench.mark(),
            "cell": run.cell.name,
            "method": run.method,
            "seed": run.seed,
            "metrics": metrics,
            "seconds": seconds,
            "resumed": resumed,
            "device": str(bench.device),
            "torch": torch.__version__,
            "settings": {name: value for name, value, _ in run.cell.recipe.rows(shelf.budget, shelf.changes)},
            "details": dict(outcome.details),
        }
    )
    for file in folder.rglob("checkpoint.pt"):  # model.pt has what is worth keeping
        file.unlink()


class UnreadableError(InputError):
    """The data, or what is to be made of them, cannot be read: no run can."""


def _task(run: Run, setup: Setup) -> Any:
    try:
        return run.cell.task(setup)
    except AuxilearnError as error:
        raise UnreadableError(str(error)) from error
    except Exception as error:  # what a broken file makes a reader of somebody else's raise is anybody's guess
        rule = f"The data in `{setup.data}` must be as published."
        said = " ".join(str(error).split())
        finding = f"Reading them raised `{type(error).__name__}: {said:.160}`."
        raise UnreadableError(explain(rule, finding, "Look at --verify, and get the broken file anew.")) from error


class _seeded:  # noqa: N801 - reads as a statement
    # What draws from torch's global state, random crops and dropout, is the same in whatever order runs are run.
    def __init__(self, seed: int) -> None:
        self._fork, self._seed = torch.random.fork_rng(), seed

    def __enter__(self) -> None:
        self._fork.__enter__()
        torch.manual_seed(self._seed)

    def __exit__(self, *found: Any) -> None:
        self._fork.__exit__(*found)


def _key(reproduction: Reproduction, run: Run, shelf: Shelf) -> str:
    module = REPRODUCTIONS.get(reproduction.name, "").partition(":")[0]
    code = code_of(module) if module else ""
    rows = run.cell.recipe.rows(shelf.budget, shelf.changes)
    weights = None if shelf.pretrained is None else fingerprint(shelf.pretrained)
    settings = [reproduction.name, run.cell.name, run.method, run.seed, rows, weights, torch.__version__]
    return hashlib.sha256(json.dumps([*settings, code]).encode()).hexdigest()[:16]


def _safe(name: str) -> str:
    return quote(name, safe=" ,()+=%")
