"""Which jobs a comparison needs, which of them are finished, and in what order to run the rest."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import final

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.experiments.harness._experiment import Cell, Experiment
from auxilearn.experiments.harness._store import Job, Store
from auxilearn.experiments.registry import suggestion

BASIC = ("main only", "equal", "equal, raw", "equal, normalised")
"""The methods that need no thought, by all their names: what a method must never fall below."""


@final
@dataclass(frozen=True)
class Plan:
    """The jobs of a comparison.

    Attributes:
        finished: Jobs whose results are in the store.
        missing: The others, in the order to run them.
        seconds: What each missing job should take, from other seeds; NaN where nobody knows.
    """

    finished: tuple[Job, ...]
    missing: tuple[Job, ...]
    seconds: tuple[float, ...]

    def costs(self) -> list[float]:
        """Guess what each missing job takes, for a progress bar.

        Returns:
            Seconds; where nobody knows, the mean of the others, or 1.
        """
        known = [s for s in self.seconds if not math.isnan(s)]
        usual = sum(known) / len(known) if known else 1.0
        return [usual if math.isnan(s) else max(s, 1e-3) for s in self.seconds]

    def estimate(self, workers: int) -> str:
        """Say how long the missing jobs should take.

        Args:
            workers: How many processes share them.

        Returns:
            A few words.
        """
        unknown = sum(map(math.isnan, self.seconds))
        if not self.missing:
            return "nothing to run"
        if unknown == len(self.missing):
            return "time unknown: no seed of these methods was ever run here"
        words = f"about {spoken(sum(self.costs()) / max(1, min(workers, len(self.missing))))}"
        return words + (f" ({unknown} jobs guessed: none of their seeds was ever run here)" if unknown else "")


def plan(
    name: str,
    experiment: Experiment,
    store: Store,
    methods: Collection[str],
    cells: Collection[str],
    seeds: Sequence[int],
) -> Plan:
    """List the jobs of a comparison.

    Seeds are finished one after another over all cells and methods, so that an interrupted comparison is paired; within
    a seed the longest jobs come first, so that no process waits long for the last one.

    Args:
        name: The experiment's name in the registry.
        experiment: The experiment.
        store: Where results are.
        methods: Names of methods; a cell runs those that it has.
        cells: Names of cells.
        seeds: The seeds.

    Returns:
        The plan.
    """
    jobs = [
        Job(name, cell.name, method, seed)
        for seed in seeds
        for cell in experiment.cells
        for method in cell.methods
        if cell.name in cells and method in methods
    ]
    finished = {job: None for job in jobs if store.get(job) is not None}
    known = {job[:3]: store.seconds(job) for job in jobs}
    seconds = {job: math.nan if (s := known[job[:3]]) is None else s for job in jobs}
    order = {seed: i for i, seed in enumerate(seeds)}
    # Jobs that nobody knows come first: they may be the longest. Sorting is stable.
    missing = sorted(
        (job for job in jobs if job not in finished),
        key=lambda job: (order[job.seed], -math.inf if math.isnan(seconds[job]) else -seconds[job]),
    )
    return Plan(tuple(finished), tuple(missing), tuple(seconds[job] for job in missing))


def basic_methods(experiment: Experiment) -> list[str]:
    """Choose few methods for a first look: ours, and in each cell the basic ones, or its first if it has none of them.

    Args:
        experiment: The experiment.

    Returns:
        Their names.
    """
    chosen = [experiment.ours]
    for cell in experiment.cells:
        chosen += [name for name in BASIC if name in cell.methods] or [plain(cell)]
    return list(dict.fromkeys(chosen))


def plain(cell: Cell) -> str:
    """Name the plain training run to which compute is compared.

    Args:
        cell: The cell.

    Returns:
        ``"main only"``, or the cell's first method.
    """
    return BASIC[0] if BASIC[0] in cell.methods else next(iter(cell.methods))


def methods_of(experiment: Experiment) -> list[str]:
    """List the methods of all cells.

    Args:
        experiment: The experiment.

    Returns:
        Their names, in the order of the cells.
    """
    return list(dict.fromkeys(name for cell in experiment.cells for name in cell.methods))


def chosen_methods(experiment: Experiment, words: Sequence[str]) -> list[str]:
    """Read names of methods, which may themselves hold commas.

    Args:
        experiment: The experiment.
        words: Names, or lists of names with commas between them.

    Returns:
        The names; all that there are if ``words`` is empty.

    Raises:
        InputError: If there is no such method.

    Example:
        >>> cell = Cell("a", "", lambda seed: None, {"main only": ..., "equal, raw": ..., "ours": ...})
        >>> chosen_methods(Experiment("e", "", "", (cell,), "ours"), ["equal, raw,ours"])
        ['equal, raw', 'ours']
    """
    return named_methods(experiment.name, methods_of(experiment), words)


def named_methods(experiment: str, known: list[str], words: Sequence[str]) -> list[str]:
    """Read names that may themselves hold commas; see :func:`chosen_methods`.

    Args:
        experiment: Its name, for the message.
        known: The names that there are.
        words: Names, or lists of names with commas between them.

    Returns:
        The names; all that there are if ``words`` is empty.

    Raises:
        InputError: If there is no such method.
    """
    chosen: list[str] = []
    for word in words:
        pieces = word.split(",")
        while pieces:
            # The longest name that the next pieces make.
            heads = [",".join(pieces[:n]).strip() for n in range(len(pieces), 0, -1)]
            found = next((head for head in heads if head in known), None)
            if found is None:
                rule = f"A method must be one of `{experiment}`."
                raise InputError(explain(rule, f"There is no `{heads[-1]}`.", suggestion(heads[-1], known)))
            pieces = pieces[len(pieces) - heads.index(found) :]
            chosen.append(found)
    return list(dict.fromkeys(chosen)) or known


def chosen_cells(experiment: Experiment, words: Sequence[str]) -> list[str]:
    """Find cells by parts of their names.

    Args:
        experiment: The experiment.
        words: Parts of names, upper or lower case.

    Returns:
        The names of the cells that hold one of the words; all cells if ``words`` is empty.

    Raises:
        InputError: If a word is in no cell's name.
    """
    known = [cell.name for cell in experiment.cells]
    for word in words:
        if not any(word.lower() in name.lower() for name in known):
            rule = f"A cell must be one of `{experiment.name}`, by its name or a part of it."
            raise InputError(explain(rule, f"No cell's name holds `{word}`.", suggestion(word, known)))
    return [name for name in known if not words or any(word.lower() in name.lower() for word in words)]


def spoken(seconds: float) -> str:
    """Say a time in the unit that fits it.

    Args:
        seconds: The time.

    Returns:
        A few words.

    Example:
        >>> spoken(42.3), spoken(600), spoken(9000)
        ('42 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
