"""Every exception and warning that auxilearn raises on purpose.

All of them derive from :class:`AuxilearnError`, and also from the built-in class that a caller would expect, so that
``except ValueError`` keeps working. Messages say the rule, the finding and the cure, in this order.

>>> from auxilearn.errors import AuxilearnError, InputError
>>> issubclass(InputError, AuxilearnError) and issubclass(InputError, ValueError)
True
"""

__all__ = [
    "AuxilearnError",
    "InputError",
    "MissingExtraError",
    "SecondOrderError",
    "SolverError",
    "SolverWarning",
]


class AuxilearnError(Exception):
    """Base class of every error that auxilearn raises on purpose."""


class InputError(AuxilearnError, ValueError):
    """An argument breaks a rule; nothing was changed."""


class SecondOrderError(AuxilearnError, RuntimeError):
    """The training loss has no second derivative, or torch cannot compute it; nothing was changed."""


class SolverError(AuxilearnError, RuntimeError):
    """A linear solve failed and the caller asked for ``on_failure="raise"``; nothing was changed."""


class MissingExtraError(AuxilearnError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class SolverWarning(UserWarning):
    """A linear solve failed and the caller asked for ``on_failure="warn"``."""
