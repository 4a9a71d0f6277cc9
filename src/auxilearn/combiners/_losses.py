"""The layout of a tensor of losses, and its validation."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from auxilearn._checks import count, explain
from auxilearn.errors import InputError

# What each number of dimensions means. The losses lie along the only axis of `(K,)` and along the second one otherwise.
_LAYOUTS = {1: "(K,)", 2: "(B, K)", 4: "(B, K, H, W)"}


def loss_axis(losses: Tensor, /) -> int:
    """Find the axis along which the ``K`` losses lie.

    Args:
        losses: Losses, ``(K,)``, ``(B, K)`` or ``(B, K, H, W)``.

    Returns:
        0 for reduced losses, 1 for all others.
    """
    return 0 if losses.ndim == 1 else 1


def mean_per_loss(losses: Tensor, /) -> Tensor:
    """Average each loss over samples and pixels.

    Args:
        losses: Losses, ``(K,)``, ``(B, K)`` or ``(B, K, H, W)``.

    Returns:
        The means, ``(K,)``.
    """
    return losses.movedim(loss_axis(losses), 0).flatten(1).mean(1) if losses.ndim > 1 else losses


def per_loss(name: str, values: float | Sequence[float] | Tensor, num_losses: int, /) -> Tensor:
    """Make one number for each loss.

    Args:
        name: The argument's name, for messages.
        values: One number for all losses, or one for each.
        num_losses: ``K``.

    Returns:
        The numbers, ``(K,)``, on the CPU or where a given tensor lies, in torch's default dtype.

    Raises:
        InputError: If there are neither 1 nor ``K`` values.
    """
    given = torch.as_tensor(values, dtype=torch.get_default_dtype()).detach()
    if given.shape not in {(), (num_losses,)}:
        rule = f"`{name}` must be one number, or one for each of the {num_losses} losses."
        raise InputError(explain(rule, f"Its shape is {tuple(given.shape)}.", "Change it."))
    return given.expand(num_losses).clone()


def check_widths(name: str, widths: object, /) -> None:
    """Check the widths of hidden layers.

    Args:
        name: The argument's name, for messages.
        widths: What was given.

    Raises:
        InputError: If they are no sequence of positive integers, or empty.
    """
    rule = f"`{name}` must be a sequence of at least one width."
    if not isinstance(widths, Sequence) or isinstance(widths, str):
        raise InputError(explain(rule, f"It is {widths!r}.", "Write one width as `(8,)`."))
    if not widths:
        raise InputError(explain(rule, "It is empty.", "Without a hidden layer it would be `Linear`; use that."))
    for width in cast("Sequence[object]", widths):
        count(f"{name}[...]", cast("int", width), 1)


def check_main(name: str, main: object, num_losses: int, /) -> None:
    """Check the index of the main loss.

    Args:
        name: The argument's name, for messages.
        main: What was given.
        num_losses: How many losses there are.

    Raises:
        InputError: If it is no integer in ``0 … num_losses - 1``.
    """
    if not isinstance(main, int) or isinstance(main, bool) or not 0 <= main < num_losses:
        rule = f"`{name}` must be the main loss's index among the {num_losses} losses, from 0 to {num_losses - 1}."
        raise InputError(explain(rule, f"It is {main!r}.", "Count from 0, in the order in which losses are stacked."))


def check_losses(losses: object, num_losses: int, ndims: tuple[int, ...], /, *, finite: bool = True) -> None:
    """Check a tensor of losses.

    Args:
        losses: What was given.
        num_losses: ``K``, how many losses there have to be.
        ndims: The numbers of dimensions that are allowed.
        finite: Whether to look at the values too, which waits for the device. Nothing is looked at while compiling or
            inside ``torch.vmap``, where there are no values yet.

    Raises:
        InputError: If it is no floating-point tensor, has a layout or a number of losses that is not expected, is
            empty, or holds a NaN or an infinity.
    """
    layouts = " or ".join(_LAYOUTS.get(n, f"with {n} dimensions") for n in ndims)
    rule = f"`losses` must be a floating-point tensor {layouts} with K = {num_losses}."
    if not isinstance(losses, Tensor):
        cure = "Join scalars with `torch.stack(losses)`, per-sample losses with `torch.stack(losses, dim=1)`."
        raise InputError(explain(rule, f"It is a `{type(losses).__name__}`.", cure))
    if not losses.is_floating_point():
        raise InputError(explain(rule, f"Its dtype is {losses.dtype}.", "Did you pass labels? Pass the losses."))
    shape = tuple(losses.shape)
    if losses.ndim not in ndims:
        cure = "Keep the axis of the losses: for B samples, `torch.stack(losses, dim=1)` without reduction."
        raise InputError(explain(rule, f"Its shape is {shape}.", cure))
    found = shape[loss_axis(losses)]
    if found != num_losses:
        swapped = losses.ndim == 2 and shape[0] == num_losses
        cure = "Transpose it, `losses.T`." if swapped else "Pass as many losses as the combiner was built for."
        raise InputError(explain(rule, f"Its shape is {shape}, which holds {found} losses.", cure))
    if not losses.numel():
        raise InputError(explain(rule, f"Its shape is {shape}, which is empty.", "Skip empty batches."))
    if finite and not torch.compiler.is_compiling():
        _check_finite(losses.detach())


def _check_finite(losses: Tensor) -> None:
    try:
        if bool(torch.isfinite(losses).all()):
            return
    except RuntimeError as error:
        if "vmap" in str(error):  # tensors have no values to look at inside vmap
            return
        raise
    rows = losses.movedim(loss_axis(losses), 0).reshape(losses.shape[loss_axis(losses)], -1)
    found: list[str] = []
    for k, row in enumerate(rows):
        broken = row[~row.isfinite()]
        if len(broken):
            found.append(f"loss {k} is {broken[0].item()} in {len(broken)} of {len(row)} values")
    finding = "; ".join(found[:5]) + (f"; and {len(found) - 5} more losses" if len(found) > 5 else "")
    cure = "Look for overflow, a log of zero or a too large learning rate where that loss is computed."
    raise InputError(explain("Every loss must be finite.", f"{finding[0].upper()}{finding[1:]}.", cure))
