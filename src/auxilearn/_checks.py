"""Validation of arguments: every message states the rule, the finding and the cure."""

import math
import operator
from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from auxilearn.errors import InputError


def explain(rule: str, finding: str, cure: str) -> str:
    """Join the three sentences of a message.

    Args:
        rule: What has to hold.
        finding: What was found instead.
        cure: What the caller can do.

    Returns:
        The three as one line.

    Example:
        >>> explain("`terms` must be at least 0.", "It is -1.", "Try 3.")
        '`terms` must be at least 0. It is -1. Try 3.'
    """
    return f"{rule} {finding} {cure}"


def tensors(name: str, values: Iterable[Tensor], /) -> tuple[Tensor, ...]:
    """Make a tuple of the trainable tensors in ``values``, which may be a generator.

    Frozen tensors (``requires_grad=False``) are constants of the problem and are left out.

    Args:
        name: The argument's name, for messages.
        values: The tensors, any iterable of them.

    Returns:
        The tensors that require a gradient, in order.

    Raises:
        InputError: For an empty iterable, a repeated tensor, anything that is no tensor, an integer tensor, or tensors
            on several devices or of several data types.
    """
    everything = _listed(name, values)
    trainable = tuple(t for t in everything if t.requires_grad)
    if not trainable:
        finding = f"All {len(everything)} are frozen." if everything else "It is empty."
        cure = "Pass a model's `.parameters()`; a generator that was used before is empty, so ask for it again."
        raise InputError(explain(f"`{name}` must hold at least one tensor that requires a gradient.", finding, cure))
    repeated = len(trainable) - len({id(t) for t in trainable})
    if repeated:
        raise InputError(
            explain(
                f"`{name}` must not repeat a tensor.",
                f"{repeated} of {len(trainable)} are repeats.",
                "Remove duplicates, e.g. `list(dict.fromkeys(...))`.",
            )
        )
    _one_kind(name, trainable)
    return trainable


def blocks(name: str, values: Iterable[Tensor], /) -> tuple[Tensor, ...]:
    """Make a tuple of the tensors in ``values``, trainable or not.

    Args:
        name: The argument's name, for messages.
        values: The tensors, any iterable of them.

    Returns:
        The tensors, in order.

    Raises:
        InputError: As for :func:`tensors`, but that frozen and repeated ones are accepted.
    """
    found = tuple(_listed(name, values))
    if not found:
        raise InputError(explain(f"`{name}` must hold at least one tensor.", "It is empty.", "Pass the tensors."))
    _one_kind(name, found)
    return found


def _listed(name: str, values: object) -> list[Tensor]:
    rule = f"`{name}` must be an iterable of tensors."
    if isinstance(values, nn.Module):
        raise InputError(explain(rule, "It is a module.", "Pass its `.parameters()`."))
    if isinstance(values, Tensor):
        raise InputError(explain(rule, "It is a single tensor.", "Put it in a list: `[tensor]`."))
    if isinstance(values, (Mapping, str)) or not isinstance(values, Iterable):
        given = cast("object", values)
        cure = "Call it." if callable(given) else "Pass a list of the tensors, e.g. a model's `.parameters()`."
        raise InputError(explain(rule, f"It is {_kind(given)}.", cure))
    found = list(cast("Iterable[object]", values))
    for value in found:
        if not isinstance(value, Tensor):
            cures = {"tuple": "Pass `.parameters()`, not `.named_parameters()`.", "list": "Make one list of the lists."}
            cure = cures.get(type(value).__name__, "Pass tensors.")
            raise InputError(explain(rule, f"It holds {_kind(value)}.", cure))
        if value.is_complex() and value.requires_grad:
            cure = "Keep the real and imaginary parts as the parameter, and call `torch.view_as_complex` on it."
            raise InputError(explain(f"`{name}` must be real tensors.", f"One has dtype {value.dtype}.", cure))
        # A frozen integer parameter (a quantised weight) is a constant; a bare integer tensor is a slip.
        if not value.is_floating_point() and not isinstance(value, nn.Parameter):
            raise InputError(
                explain(
                    f"`{name}` must be floating-point tensors.",
                    f"One has dtype {value.dtype}.",
                    "Did you pass labels, or a parameter made of integers? Convert it with `.float()`.",
                )
            )
    return cast("list[Tensor]", found)


def _kind(value: object) -> str:
    return f"a `{type(value).__name__}`"


def _one_kind(name: str, values: tuple[Tensor, ...]) -> None:
    devices = {t.device for t in values}
    if len(devices) > 1:
        finding = f"They lie on {', '.join(sorted(map(str, devices)))}."
        raise InputError(explain(f"`{name}` must share one device.", finding, "Move the model with `.to(device)`."))
    dtypes = {t.dtype for t in values}
    if len(dtypes) > 1:
        finding = f"They have {', '.join(sorted(map(str, dtypes)))}."
        cure = "Keep master weights in one dtype (autocast does), or freeze the others."
        raise InputError(explain(f"`{name}` must share one dtype.", finding, cure))


def scalar_loss(name: str, loss: Tensor, /, *, finite: bool = True) -> Tensor:
    """Check that a loss is a finite scalar with a graph.

    Args:
        name: The argument's name, for messages.
        loss: The loss, a tensor with one element.
        finite: Whether its value is looked at.

    Returns:
        The loss as a 0-dimensional tensor.

    Raises:
        InputError: If the loss is no tensor, has several elements, is cut from the graph, or is NaN or infinite.
    """
    rule = f"`{name}` must be a scalar tensor with a graph."
    given = cast("object", loss)
    if not isinstance(given, Tensor):
        cure = "Pass the loss itself, not `.item()`, and call a loss function before passing its value."
        raise InputError(explain(rule, f"It is {_kind(given)}.", cure))
    if loss.numel() != 1:
        raise InputError(explain(rule, f"Its shape is {tuple(loss.shape)}.", "Reduce it, e.g. with `.mean()`."))
    if not loss.requires_grad:
        cure = "Compute it with gradients enabled: no `.detach()`, `torch.no_grad()` or `torch.inference_mode()`."
        raise InputError(explain(rule, "It is cut from the graph.", cure))
    if finite and not math.isfinite(value := loss.item()):
        cure = "Look for overflow, a log of zero or a too large learning rate; nothing was changed."
        raise InputError(explain(f"`{name}` must be finite.", f"It is {value}.", cure))
    return loss if loss.dim() == 0 else loss.reshape(())


def scaled_loss(name: str, loss: Tensor, scale: float, /) -> Tensor:
    """Check a loss, and multiply it by a loss scale.

    Under a scale above 1 an overflow is no error, but the sign for whoever chose the scale to lower it: every
    derivative of the result is then NaN, on all ranks that average it.

    Args:
        name: The argument's name, for messages.
        loss: The loss, a tensor with one element.
        scale: The factor.

    Returns:
        The scaled loss as a 0-dimensional tensor.

    Raises:
        InputError: As :func:`scalar_loss`, and if the scale is not positive.
    """
    positive("loss_scale", scale)
    loss = scalar_loss(name, loss, finite=scale <= 1.0)
    if scale == 1.0:
        return loss
    # The gradient of an infinite loss may be finite, and would belong to no loss.
    return loss * (scale if scale < 1.0 or math.isfinite(loss.item()) else math.nan)


def at_least(name: str, value: float, minimum: float, /) -> None:
    """Check a number's lower bound.

    Args:
        name: The argument's name, for messages.
        value: The number.
        minimum: Its smallest allowed value.

    Raises:
        InputError: If ``value`` is smaller, NaN, infinite or no number.
    """
    if not (_finite(value) and value >= minimum):
        raise InputError(explain(f"`{name}` must be finite and at least {minimum}.", f"It is {value!r}.", "Change it."))


def count(name: str, value: int, minimum: int, /) -> None:
    """Check a whole number's lower bound.

    Args:
        name: The argument's name, for messages.
        value: The number.
        minimum: Its smallest allowed value.

    Raises:
        InputError: If ``value`` is smaller, or no whole number.
    """
    try:
        # True counts as 1 in Python, and as a slip here.
        whole = minimum - 1 if isinstance(cast("object", value), bool) else operator.index(value)
    except TypeError:
        whole = minimum - 1
    if whole < minimum:
        raise InputError(
            explain(f"`{name}` must be an integer of at least {minimum}.", f"It is {value!r}.", "Change it.")
        )


def positive(name: str, value: float, /) -> None:
    """Check that a number is finite and above zero.

    Args:
        name: The argument's name, for messages.
        value: The number.

    Raises:
        InputError: If it is not.
    """
    if not (_finite(value) and value > 0):
        raise InputError(explain(f"`{name}` must be finite and above 0.", f"It is {value!r}.", "Change it."))


def positive_or_auto(name: str, value: float | str, /) -> None:
    """Check that a setting is a number above zero, or left to the library.

    Args:
        name: The argument's name, for messages.
        value: The number, or ``"auto"``.

    Raises:
        InputError: If it is neither.
    """
    if not isinstance(value, str):
        positive(name, value)
    elif value != "auto":
        rule = f"`{name}` must be a positive number or 'auto'."
        raise InputError(explain(rule, f"It is {value!r}.", "Choose one of them."))


def _finite(value: object) -> bool:
    # A tensor with one element counts as a number, as it does in torch's optimizers.
    try:
        return math.isfinite(cast("float", value))
    except (TypeError, ValueError, RuntimeError):
        return False


def one_of(name: str, value: object, allowed: tuple[object, ...], /) -> None:
    """Check membership.

    Args:
        name: The argument's name, for messages.
        value: What was given.
        allowed: The values that may be given.

    Raises:
        InputError: If ``value`` is not among them.
    """
    if value not in allowed:
        choices = ", ".join(repr(a) for a in allowed)
        raise InputError(explain(f"`{name}` must be one of {choices}.", f"It is {value!r}.", "Choose one of them."))


def low_precision(dtype: torch.dtype, /) -> bool:
    """Say whether a data type is too coarse for finite differences.

    Args:
        dtype: The data type.

    Returns:
        True for everything with fewer than 23 bits of mantissa.
    """
    return torch.finfo(dtype).eps > torch.finfo(torch.float32).eps
