"""Where each experiment is: a name for the command line, and the module and constant that hold it.

>>> from auxilearn.experiments.registry import suggestion
>>> suggestion("harmfull", ["harmful", "attributes"])
'Did you mean `harmful`?'
"""

import difflib
from collections import Counter
from collections.abc import Iterable
from importlib import import_module

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.experiments.harness._experiment import Experiment

__all__ = ["EXPERIMENTS", "load", "place", "suggestion"]

_GIVEN = "auxilearn.experiments.given._experiments"
EXPERIMENTS: dict[str, str] = {
    "annotators": f"{_GIVEN}:ANNOTATORS",
    "attributes": f"{_GIVEN}:ATTRIBUTES",
    "demo": "auxilearn.experiments.given._demo:DEMO",
    "dense": "auxilearn.experiments.dense._experiment:DENSE",
    "generate": "auxilearn.experiments.generate._experiment:GENERATE",
    "harmful": f"{_GIVEN}:HARMFUL",
    "hpo": "auxilearn.experiments.hpo._experiment:HPO",
    "hyper-cleaning": "auxilearn.experiments.cleaning._experiment:CLEANING",
    "label-noise": f"{_GIVEN}:LABEL_NOISE",
    "landscape": "auxilearn.experiments.landscape._experiment:LANDSCAPE",
    "nonlinear": "auxilearn.experiments.nonlinear._experiment:NONLINEAR",
    "regression": f"{_GIVEN}:REGRESSION",
    "useless": f"{_GIVEN}:USELESS",
}
"""Name to ``"module:CONSTANT"``; an experiment is imported when it is asked for."""


def place(name: str) -> str:
    """Find where an experiment is.

    Args:
        name: A registered name, or ``"module:CONSTANT"`` of any module that can be imported.

    Returns:
        The place, as ``"module:CONSTANT"``.

    Raises:
        InputError: If no experiment has this name; the message lists those that there are.
    """
    if ":" in name:
        return name
    if name not in EXPERIMENTS:
        rule = "An experiment's name is one that `auxilearn list` shows, or `module:CONSTANT`."
        raise InputError(explain(rule, f"There is no `{name}`.", suggestion(name, EXPERIMENTS)))
    return EXPERIMENTS[name]


def load(name: str) -> Experiment:
    """Import an experiment.

    Args:
        name: A registered name, or ``"module:CONSTANT"`` of any module that can be imported, your own included.

    Returns:
        The experiment.

    Raises:
        InputError: If there is none, or if it contradicts itself: two cells of one name, or a cell without ``ours``.
        ModuleNotFoundError: If the module is there, but imports one that is not.
    """
    where = place(name)
    module, _, constant = where.partition(":")
    try:
        found: object = getattr(import_module(module), constant, None)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise
        found = None
    if not isinstance(found, Experiment):
        rule = f"The experiment `{name}` must be an `Experiment` at `{where}`."
        finding = "There is nothing." if found is None else f"There is a `{type(found).__name__}`."
        raise InputError(explain(rule, finding, "Write the place as `package.module:CONSTANT`."))
    _refuse_contradictions(found)
    return found


def suggestion(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant.

    Args:
        word: What was written.
        known: What there is.

    Returns:
        A sentence: the closest word, or all of them.
    """
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean `{close[0]}`?"
    return f"There are: {', '.join(f'`{n}`' for n in names)}." if names else "There are none."


def _refuse_contradictions(experiment: Experiment) -> None:
    rule = f"The experiment `{experiment.name}` must have cells of different names, each with its method `ours`."
    repeated = [name for name, times in Counter(cell.name for cell in experiment.cells).items() if times > 1]
    lacking = [cell.name for cell in experiment.cells if experiment.ours not in cell.methods]
    if not experiment.cells:
        raise InputError(explain(rule, "It has no cells.", "Give it one."))
    if repeated:
        raise InputError(explain(rule, f"Two are called `{repeated[0]}`.", "Rename one."))
    if lacking:
        finding = f"The cell `{lacking[0]}` has no method `{experiment.ours}`."
        raise InputError(explain(rule, finding, "Set `ours` to the name of a method in every cell."))
