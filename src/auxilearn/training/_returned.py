"""What a user's functions returned, called and validated."""

from typing import cast

import torch
from torch import Tensor, nn

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.training._problem import Batch, Measured, Problem, by_name


def measured_by(problem: Problem, model: nn.Module, batch: Batch) -> object:
    """Call a user's ``losses``.

    Args:
        problem: The problem.
        model: The model.
        batch: The batch.

    Returns:
        Whatever it returns.

    Raises:
        InputError: If it is no function.
    """
    if not callable(cast("object", problem.losses)):
        rule = "`losses` must be a function of the model and a batch."
        raise InputError(explain(rule, f"It is a `{type(problem.losses).__name__}`.", "Pass the function, uncalled."))
    return problem.losses(model, batch)


def checked_losses(found: object, problem: Problem, labelled: Tensor | None) -> tuple[Tensor, Tensor]:
    """Validate what a user's ``losses`` returned, and mask the losses that do not exist.

    Args:
        found: The return value.
        problem: The problem.
        labelled: Which rows of the batch carry a main label, shape (B,); None: all.

    Returns:
        The losses, shape (B, K), zero where they do not exist, and the mask of those that do.

    Raises:
        InputError: If the shapes do not match, the main column is out of range, or a loss that exists is not finite.
    """
    values, present = _pair(found)
    given = cast("object", problem.main)
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given < values.shape[1]:
        rule = f"`main` must be a column of the losses, from 0 to {values.shape[1] - 1}."
        raise InputError(explain(rule, f"It is {problem.main!r}.", "Count from 0, in the order of the columns."))
    if labelled is not None:
        _check_labelled(labelled)
        if len(labelled) != len(values):
            rule = "`losses` must return a row for each sample of the batch."
            finding = f"The batch has {len(labelled)} samples, and the losses {len(values)} rows."
            raise InputError(explain(rule, finding, "Do not average over the batch: use `reduction='none'`."))
        column = torch.arange(values.shape[1], device=values.device) == problem.main
        present = present & (labelled[:, None] | ~column)
    # `where`, not a product: whatever stands at an absent loss, its gradient is zero.
    return torch.where(present, values, torch.zeros_like(values)), present


def logits_by(problem: Problem, model: nn.Module, batch: Batch) -> object:
    """Call a user's ``logits``, where there is one.

    Args:
        problem: The problem.
        model: The model.
        batch: The batch.

    Returns:
        Whatever it returns.

    Raises:
        InputError: If it is no function.
    """
    assert problem.logits is not None
    if not callable(cast("object", problem.logits)):
        rule = "`logits` must be a function of the model and a batch."
        raise InputError(explain(rule, f"It is a `{type(problem.logits).__name__}`.", "Pass the function, uncalled."))
    return problem.logits(model, batch)


def checked_logits(found: object) -> tuple[Tensor, Tensor]:
    """Validate what a user's ``logits`` returned.

    Args:
        found: The return value.

    Returns:
        The logits, (B, C), and the labels, (B,).

    Raises:
        InputError: If it is anything else.
    """
    rule = "`logits` must return a pair: the main head's logits (B, C), and the classes (B,), integers."
    cure = "Return `model(x), y`; leave `logits` out if the main task is no classification."
    pair = tuple(cast("list[object]", found)) if isinstance(found, (tuple, list)) else ()
    if len(pair) != 2:
        raise InputError(explain(rule, f"It returned a `{type(cast('object', found)).__name__}`.", cure))
    logits, labels = pair
    if not isinstance(logits, Tensor) or not isinstance(labels, Tensor):
        finding = f"It returned a `{type(logits).__name__}` and a `{type(labels).__name__}`."
        raise InputError(explain(rule, finding, cure))
    if logits.dim() != 2 or not logits.is_floating_point() or labels.shape != logits.shape[:1] or not _whole(labels):
        shapes = f"{tuple(logits.shape)} of {logits.dtype} and {tuple(labels.shape)} of {labels.dtype}"
        raise InputError(explain(rule, f"It returned shapes {shapes}.", cure))
    return logits, labels


def _whole(labels: Tensor) -> bool:
    return not labels.is_floating_point() and not labels.is_complex() and labels.dtype != torch.bool


def _check_labelled(labelled: object) -> None:
    rule = "`labelled` must be a bool mask (B,) of the rows that carry a main label."
    if not isinstance(labelled, Tensor):
        raise InputError(explain(rule, f"It is a `{type(labelled).__name__}`.", "Pass a tensor, or None for all."))
    if labelled.dtype != torch.bool or labelled.dim() != 1:
        finding = f"It has shape {tuple(labelled.shape)} and dtype {labelled.dtype}."
        raise InputError(explain(rule, finding, "Make it with a comparison, e.g. `y >= 0`."))


def _pair(found: object) -> tuple[Tensor, Tensor]:
    rule = "`losses` must return a floating-point tensor (B, K), or a pair of it and a bool mask (B, K)."
    cure = "Stack the losses of each sample, e.g. `torch.stack([main, auxiliary], dim=1)` without reduction."
    present: object = None
    if isinstance(found, (tuple, list)):
        parts = tuple(cast("list[object]", found))
        if len(parts) != 2:
            raise InputError(explain(rule, f"It returned {len(parts)} things.", cure))
        found, present = parts
    if not isinstance(found, Tensor):
        raise InputError(explain(rule, f"It returned a `{type(found).__name__}`.", cure))
    if found.dim() != 2 or not found.is_floating_point() or not found.numel():
        raise InputError(explain(rule, f"It returned shape {tuple(found.shape)} of {found.dtype}.", cure))
    if present is None:
        return found, torch.ones_like(found, dtype=torch.bool)
    if not isinstance(present, Tensor) or present.dtype != torch.bool or present.shape != found.shape:
        what = f"{tuple(present.shape)} of {present.dtype}" if isinstance(present, Tensor) else type(present).__name__
        finding = f"The losses have shape {tuple(found.shape)}, the mask is {what}."
        raise InputError(explain(rule, finding, "Make the mask with a comparison, of the losses' shape."))
    return found, present


def refuse_broken(measured: Measured, names: tuple[str, ...]) -> None:
    """Raise if a loss that exists is not finite.

    Args:
        measured: The losses.
        names: Their names.

    Raises:
        InputError: With the names of the broken ones.
    """
    broken = ~measured.values.detach().isfinite().flatten(0, -2).all(0)
    if bool(broken.any()):
        found = ", ".join(f"`{name}`" for name, bad in by_name(names, broken).items() if bad)
        cure = "Look for overflow, a log of zero or a too large learning rate; the weights were not moved by it."
        raise InputError(explain("Every loss must be finite.", f"NaN or infinite: {found}.", cure))
