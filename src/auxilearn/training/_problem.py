"""What a user writes: a model, its losses, the main one among them, and data."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from auxilearn._checks import explain
from auxilearn.errors import InputError

Batch = Any
Losses = Callable[[nn.Module, Batch], "Tensor | tuple[Tensor, Tensor]"]


@final
@dataclass(frozen=True)
class Problem:
    """A main task with auxiliary losses.

    Attributes:
        model: The network, or a function that builds one. It is copied: the module itself is never trained.
        losses: A function of the model and a batch that returns the losses of each sample, shape (B, K). Where a loss
            does not exist for some samples, it returns a pair: the losses, and a mask (B, K) of those that exist; the
            values elsewhere are not read, but must be finite. The mean of each loss is over the samples that have it.
        data: Tensors of equal length (a batch is the tuple of their rows), a map-style data set, or a loader of one,
            whose batch size and collation are then used.
        main: The column of the main loss; all others are auxiliary.
        labelled: The rows of ``data`` that have a main label, shape (N,). Only they are ever held back, and the main
            loss of other rows is never read. None: all rows.
        logits: A function of the model and a batch that returns the main head's logits (B, C) and labels (B,). With
            it, folds are stratified by class, and candidates are compared by calibrated cross entropies.
        names: A name for each loss, for tables and logs.

    Example:
        >>> x, y = torch.randn(20, 3), torch.randn(20, 2)
        >>> def losses(model, batch):
        ...     x, y = batch
        ...     return (model(x) - y).square()  # (B, 2): the main regression and one auxiliary
        >>> problem = Problem(nn.Linear(3, 2), losses, data=(x, y))
        >>> type(problem.new_model()).__name__
        'Linear'
    """

    model: nn.Module | Callable[[], nn.Module]
    losses: Losses
    data: "tuple[Tensor, ...] | Dataset[Any] | DataLoader[Any]"
    main: int = 0
    labelled: Tensor | None = None
    logits: Callable[[nn.Module, Batch], tuple[Tensor, Tensor]] | None = None
    names: tuple[str, ...] | None = None

    def new_model(self) -> nn.Module:
        """Return a fresh copy of the untrained network.

        Returns:
            The network, independent of all others.

        Raises:
            InputError: If ``model`` is neither a module nor a function that builds one, or nothing in it is trainable.
        """
        given = cast("object", self.model)
        if not isinstance(given, nn.Module) and not callable(given):
            rule = "`model` must be a module, or a function without arguments that builds one."
            finding = f"It is a `{type(given).__name__}`."
            raise InputError(explain(rule, finding, "Pass the network itself, or `lambda: Network(...)`."))
        model = cast("object", deepcopy(given) if isinstance(given, nn.Module) else given())
        if not isinstance(model, nn.Module):
            rule, finding = "`model` must build a module.", f"It returned a `{type(model).__name__}`."
            raise InputError(explain(rule, finding, "Return the network from the function."))
        if not any(p.requires_grad for p in model.parameters()):
            rule, finding = "`model` must have trainable parameters.", "It has none."
            raise InputError(explain(rule, finding, "Unfreeze some, with `requires_grad_()`."))
        return model

    def named(self, num_losses: int) -> tuple[str, ...]:
        """Return a name for each loss.

        Args:
            num_losses: K.

        Returns:
            The given names, or made-up ones.

        Raises:
            InputError: If there are names, but not K different ones.
        """
        if self.names is None:
            return tuple("main" if k == self.main else f"loss {k}" for k in range(num_losses))
        names = tuple(cast("Iterable[object]", self.names))
        rule, cure = "`names` must give every loss a name of its own.", "Give one for each column of `losses`."
        if isinstance(self.names, str) or not all(isinstance(name, str) for name in names):
            raise InputError(explain(rule, f"They are {self.names!r}.", "Pass a tuple of strings."))
        if len(names) != num_losses:
            raise InputError(explain(rule, f"There are {num_losses} losses and {len(names)} names.", cure))
        if len(set(names)) != num_losses:
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(explain(rule, f"`{twice}` is there twice.", cure))
        return cast("tuple[str, ...]", names)


@final
@dataclass(frozen=True)
class Measured:
    """The losses of a batch under one model or several.

    Attributes:
        values: Shape (..., B, K), zero where a loss does not exist.
        present: Which exist, shape (B, K), or (..., B, K) if not every model sees the same.
    """

    values: Tensor
    present: Tensor

    def means(self) -> Tensor:
        """Average each loss over the samples that have it.

        Returns:
            Shape (..., K); zero for a loss that no sample of the batch has.
        """
        return self.values.sum(-2) / self.present.sum(-2).clamp(min=1)

    def over(self, scale: Tensor) -> "Measured":
        """Change the units of the losses; in at least single precision, whatever computed them.

        Args:
            scale: The new units, (K,).

        Returns:
            The losses in them.
        """
        values = self.values.to(torch.promote_types(self.values.dtype, torch.float32))
        return Measured(values / scale.to(values), self.present)


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
    """
    assert problem.logits is not None
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


def by_name(names: tuple[str, ...], values: Tensor) -> dict[str, float]:
    """Give each value its loss's name.

    Args:
        names: The names of the losses.
        values: Shape (K,).

    Returns:
        Numbers by name.
    """
    return dict(zip(names, cast("list[float]", values.tolist()), strict=True))


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
