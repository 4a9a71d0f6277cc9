"""Few labels out of many: stratified draws of a labelled part, a pool, a validation part and an auxiliary set."""

from collections.abc import Mapping

import torch
from torch import Tensor

from auxilearn._checks import at_least, count, explain
from auxilearn.errors import InputError

_ROUNDING = 1e-6


def draw_few(
    classes: Tensor,
    *,
    per_class: int | None = None,
    share: float | None = None,
    validation: float = 0.0,
    held_out: float = 0.0,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    r"""Draw the parts of an experiment with few labels.

    First the validation rows: of :math:`N_c` rows of class c about :math:`v N_c`, by largest remainders, but never all.
    Then the labelled rows, of what is left: k of each class, or all that are left where they are fewer; or a share s of
    all N rows, in proportion to the classes. What is left then is the pool. At last the auxiliary set of the published
    method, a share h of the labelled rows, in proportion, too: where it has fewer rows than there are classes, no class
    has two. With the same generator, the rows of fewer shots are among those of more.

    The parts are disjoint, as :func:`~auxilearn.data.published.kept_split` wants them: ``"train"`` and ``"held_out"``
    together are labelled; :func:`labelled_rows` puts them together.

    Args:
        classes: The class of each training row, shape (N,).
        per_class: k; either this or ``share``.
        share: s, of all rows.
        validation: v, the share of all rows.
        held_out: h, the share of the labelled rows; at least one row, if it is above 0.
        generator: The source of the draw, on the CPU.

    Returns:
        Ascending row numbers by part: ``"train"``, ``"held_out"``, ``"validation"`` and ``"pool"``.

    Raises:
        InputError: If not exactly one of ``per_class`` and ``share`` is given, a share is not below 1, or nothing is
            left for a part.

    Example:
        >>> classes = torch.arange(40) % 4
        >>> parts = draw_few(classes, per_class=3, validation=0.2, held_out=0.2, generator=torch.manual_seed(0))
        >>> {name: len(rows) for name, rows in parts.items()}
        {'train': 10, 'held_out': 2, 'validation': 8, 'pool': 20}
    """
    _checked_share(per_class, share, validation, held_out)
    classes = classes.cpu()
    order = torch.randperm(len(classes), generator=generator)
    checked = _proportional(classes[order], round(validation * len(classes)), 1, generator)
    rest = order[~checked]
    if per_class is not None:
        labelled = _ranks(classes[rest]) < per_class
    else:
        labelled = _proportional(classes[rest], round((share or 0.0) * len(classes)), 0, generator)
    few, pool = rest[labelled], rest[~labelled]
    size = max(1, int(held_out * len(few))) if held_out > 0 else 0
    held = _proportional(classes[few], size, 0, generator)
    parts = {"train": few[~held], "held_out": few[held], "validation": order[checked], "pool": pool}
    if not len(parts["train"]):
        rule = "A row must be left to train on."
        finding = (
            f"There are {len(classes)}, {len(order[checked])} validate, and {len(parts['held_out'])} are held out."
        )
        raise InputError(explain(rule, finding, "Ask for more labels, or for smaller other parts."))
    return {name: rows.sort().values for name, rows in parts.items()}


def labelled_rows(parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Put the labelled rows of a draw together.

    Args:
        parts: What :func:`draw_few` returned.

    Returns:
        All labelled rows, ascending, shape (M,), and where among them those are that the published method holds back.

    Example:
        >>> labelled_rows({"train": torch.tensor([2, 7]), "held_out": torch.tensor([5])})
        (tensor([2, 5, 7]), tensor([1]))
    """
    rows = torch.cat([parts["train"], parts["held_out"]]).sort().values
    return rows, torch.isin(rows, parts["held_out"]).nonzero()[:, 0]


def _checked_share(per_class: int | None, share: float | None, validation: float, held_out: float) -> None:
    if (per_class is None) == (share is None):
        rule, finding = "Labels must be drawn either per class or as a share.", f"They are {per_class} and {share}."
        raise InputError(explain(rule, finding, "Pass exactly one of `per_class` and `share`."))
    if per_class is not None:
        count("per_class", per_class, 1)
    for name, value in {"share": share or 0.0, "validation": validation, "held_out": held_out}.items():
        at_least(name, value, 0.0)
        if value > 1.0:
            raise InputError(explain(f"`{name}` must be a share, at most 1.", f"It is {value}.", "Divide by all."))


def _ranks(classes: Tensor) -> Tensor:
    # Of each row among the rows of its class, from 0, in the order given.
    order = classes.argsort(stable=True)
    counts = classes.bincount()
    first = counts.cumsum(0) - counts
    ranks = torch.empty_like(classes)
    ranks[order] = torch.arange(len(classes)) - first[classes[order]]
    return ranks


def _proportional(classes: Tensor, size: int, spare: int, generator: torch.Generator) -> Tensor:
    # Which rows are drawn: the first ones of each class, as many as is its due. `spare` rows of each class are left.
    counts = classes.bincount()
    room = (counts - spare).clamp(min=0)
    size = min(size, int(room.sum()))
    due = counts.double() * size / max(1, len(classes))
    whole = torch.minimum((due + _ROUNDING).floor().to(torch.int64), room)
    while int(whole.sum()) < size:
        # Ties of remainders are broken at random, so that no class is preferred for its number.
        tie = _ROUNDING * torch.rand(len(counts), generator=generator, dtype=torch.float64)
        lack = torch.where(whole < room, due - whole + tie, torch.full_like(due, -torch.inf))
        more = lack.argsort(descending=True)[: size - int(whole.sum())]
        whole[more[whole[more] < room[more]]] += 1
    return _ranks(classes) < whole[classes]
