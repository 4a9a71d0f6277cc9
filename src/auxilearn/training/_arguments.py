"""The kinds of the trainer's arguments."""

from typing import cast

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.training._callbacks import Callback
from auxilearn.training._learned import Learned
from auxilearn.training._problem import Problem
from auxilearn.training._settings import Training
from auxilearn.weighting import Weighting


def checked_method(method: object) -> Learned | Weighting:
    """Check what the trainer is to do.

    Args:
        method: What was given.

    Returns:
        The same.

    Raises:
        InputError: If it is neither a learned combination nor a weighting.
    """
    if not isinstance(method, (Learned, Weighting)):
        rule = "`method` must be `Learned(...)` or a weighting."
        what = "class" if isinstance(method, type) else f"`{type(method).__name__}`"
        raise InputError(explain(rule, f"It is a {what}.", "E.g. `Learned()`, or `auxilearn.weighting.Equal()`."))
    return method


def check_kinds(problem: object, training: object, callbacks: object) -> None:
    """Check that every part is of its kind.

    Args:
        problem: What was given as the problem.
        training: What was given as the settings, or None.
        callbacks: What was given as the callbacks.

    Raises:
        InputError: If one is of another kind.
    """
    for name, given, kind in (("problem", problem, Problem), ("training", training, Training)):
        if given is not None and not isinstance(given, kind):
            rule, cure = f"`{name}` must be a `{kind.__name__}`.", f"Write `{kind.__name__}(...)` around its parts."
            raise InputError(explain(rule, f"It is a `{type(given).__name__}`.", cure))
    rule = "`callbacks` must be a list of callbacks."
    if not isinstance(callbacks, (list, tuple)):
        raise InputError(explain(rule, f"It is a `{type(callbacks).__name__}`.", "Write a single one as `[callback]`."))
    for callback in cast("list[object]", callbacks):
        if not isinstance(callback, Callback):
            finding = "It holds a class." if isinstance(callback, type) else f"It holds a `{type(callback).__name__}`."
            raise InputError(explain(rule, finding, "Derive it from `auxilearn.training.Callback`, and make one."))
