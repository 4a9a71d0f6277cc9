"""What a user writes: a model, its losses, the main one among them, and data."""

import inspect
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
        if not isinstance(given, nn.Module):
            _refuse_arguments(given)
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
        given = cast("object", self.names)
        names = tuple(cast("Iterable[object]", given)) if isinstance(given, (tuple, list)) else (given,)
        rule, cure = "`names` must give every loss a name of its own.", "Give one for each column of `losses`."
        if not isinstance(given, (tuple, list)) or not all(isinstance(name, str) for name in names):
            raise InputError(explain(rule, f"They are {given!r}.", "Pass a tuple of strings."))
        if len(names) != num_losses:
            raise InputError(explain(rule, f"There are {num_losses} losses and {len(names)} names.", cure))
        if len(set(names)) != num_losses:
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(explain(rule, f"`{twice}` is there twice.", cure))
        return cast("tuple[str, ...]", names)


def _refuse_arguments(build: Callable[..., object]) -> None:
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError):  # some builtins have none
        return
    try:
        signature.bind()
    except TypeError as error:
        rule = "`model` must be a module, or a function without arguments that builds one."
        raise InputError(
            explain(
                rule, f"Called without any, there is a {error}.", "Pass the network itself, or `lambda: Network(...)`."
            )
        ) from None


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

        Raises:
            InputError: If there are more losses, or fewer, than at first.
        """
        if self.values.shape[-1] != len(scale):
            rule = "`losses` must return the same columns for every batch."
            finding = f"They were {len(scale)} at first, and are {self.values.shape[-1]} now."
            raise InputError(
                explain(rule, finding, "Mask a loss that does not exist: return a pair, losses and a mask.")
            )
        values = self.values.to(torch.promote_types(self.values.dtype, torch.float32))
        return Measured(values / scale.to(values), self.present)


def by_name(names: tuple[str, ...], values: Tensor) -> dict[str, float]:
    """Give each value its loss's name.

    Args:
        names: The names of the losses.
        values: Shape (K,).

    Returns:
        Numbers by name.
    """
    return dict(zip(names, cast("list[float]", values.tolist()), strict=True))
