"""Whether this process is one of several, and whether anybody said that they have nothing to do with each other."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import distributed as dist

from auxilearn._checks import explain
from auxilearn.errors import InputError

_INDEPENDENT: ContextVar[bool] = ContextVar("independent ranks", default=False)


def several() -> int:
    """Count the ranks that may share a problem with this process.

    Returns:
        The size of the default process group; 1 without one, or inside :func:`independent`.
    """
    if _INDEPENDENT.get() or not dist.is_available() or not dist.is_initialized():
        return 1
    return dist.get_world_size()


@contextmanager
def independent() -> Generator[None, None, None]:
    """Declare that each rank solves a problem of its own, for everything that is called inside.

    What would otherwise refuse to compute something rank-local in a process group (:func:`auxilearn.hypergradient`,
    :class:`~auxilearn.optim.MetaOptimizer`, :class:`~auxilearn.training.Trainer` and others) then works as in a single
    process. A ``group=`` that is given counts all the same.

    Yields:
        Nothing.

    Example:
        >>> from auxilearn.distributed import independent
        >>> with independent():
        ...     pass  # e.g. `Trainer(problem).fit()`, with another seed on each rank
    """
    token = _INDEPENDENT.set(True)
    try:
        yield
    finally:
        _INDEPENDENT.reset(token)


def refuse_undeclared(what: str, cure: str) -> None:
    """Refuse to compute something of one rank that its caller may take for something of all.

    Args:
        what: The subject of the rule, e.g. ``"`unrolled`"``.
        cure: What to do instead; how to declare independent ranks is added to it.

    Raises:
        InputError: If there are several ranks, and nobody declared them independent.
    """
    if (size := several()) > 1:
        declare = "If each rank has a problem of its own, say so: `with auxilearn.distributed.independent():`."
        raise InputError(
            explain(f"{what} sees one rank's data only.", f"There are {size} ranks.", f"{cure} {declare}".strip())
        )
