"""A bilevel problem as two functions of its parameters: what truth is computed from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast, final

from torch import Tensor, nn
from torch.func import functional_call

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn.errors import InputError

__all__ = ["BilevelProblem"]

Tensors = tuple[Tensor, ...]


@final
@dataclass(frozen=True)
class BilevelProblem:
    r"""A bilevel problem.

    .. math:: \min_\varphi L_A(W^*(\varphi), \varphi) \quad\text{subject to}\quad
        W^*(\varphi) = \arg\min_W L_T(W, \varphi)

    The losses are functions of both levels' parameters, so that they can be evaluated elsewhere than at the present
    ones. They must be deterministic.

    Args:
        train_loss: :math:`L_T`, from a tuple like ``params`` and one like ``aux_params`` to a scalar.
        val_loss: :math:`L_A`, likewise.
        params: Where the weights start.
        aux_params: The auxiliary parameters at which the problem is looked at.

    Raises:
        InputError: If a loss is no function, or the parameters are no tensors of one device and data type.

    Example:
        >>> import torch
        >>> problem = BilevelProblem(
        ...     train_loss=lambda W, phi: (W[0] - phi[0]) ** 2,
        ...     val_loss=lambda W, phi: W[0] ** 2,
        ...     params=(torch.tensor(0.0),),
        ...     aux_params=(torch.tensor(2.0),),
        ... )
        >>> problem.train_loss(problem.params, problem.aux_params).item()
        4.0
    """

    train_loss: Callable[[Tensors, Tensors], Tensor]
    val_loss: Callable[[Tensors, Tensors], Tensor]
    params: Tensors
    aux_params: Tensors

    def __post_init__(self) -> None:
        for name in ("train_loss", "val_loss"):
            if not callable(getattr(self, name)):
                rule, finding = f"`{name}` must be a function.", f"It is a `{type(getattr(self, name)).__name__}`."
                raise InputError(explain(rule, finding, "Pass `lambda W, phi: ...`, which computes the loss."))
        for name in ("params", "aux_params"):  # a generator could be read only once
            object.__setattr__(self, name, _checks.blocks(name, getattr(self, name)))

    @classmethod
    def from_modules(
        cls,
        modules: Iterable[nn.Module],
        aux_modules: Iterable[nn.Module],
        train_loss: Callable[[], Tensor],
        val_loss: Callable[[], Tensor],
    ) -> "BilevelProblem":
        """Describe the problem of a training script, whose losses read the live modules.

        Args:
            modules: The networks whose parameters are the weights.
            aux_modules: The networks whose parameters are the auxiliary ones.
            train_loss: Computes the inner loss by calling these modules.
            val_loss: Computes the outer loss likewise.

        Returns:
            The problem; the modules themselves are not changed by its use.

        Raises:
            InputError: If a single module is given instead of a list.

        Example:
            >>> import torch
            >>> model, x = torch.nn.Linear(2, 1), torch.ones(3, 2)
            >>> scale = torch.nn.Linear(1, 1, bias=False)
            >>> problem = BilevelProblem.from_modules(
            ...     [model], [scale], lambda: scale(model(x)).square().mean(), lambda: model(x).square().mean()
            ... )
            >>> len(problem.params), len(problem.aux_params)
            (2, 1)
        """
        for name, given in (("modules", modules), ("aux_modules", aux_modules)):
            if isinstance(given, nn.Module):
                rule, cure = f"`{name}` must be a list of modules.", "Put it in a list: `[module]`."
                raise InputError(explain(rule, "It is a module.", cure))
        inner, outer = nn.ModuleList(modules), nn.ModuleList(aux_modules)
        trainable = {n: p for n, p in inner.named_parameters() if p.requires_grad}
        auxiliary = {n: p for n, p in outer.named_parameters() if p.requires_grad}

        def functional(closure: Callable[[], Tensor]) -> Callable[[Tensors, Tensors], Tensor]:
            # The modules hang below the one that is called, so their parameters are replaced for the closure's time.
            caller = _Caller(inner, outer, closure)

            def loss(params: Tensors, aux_params: Tensors) -> Tensor:
                state = {f"inner.{n}": p for n, p in zip(trainable, params, strict=True)}
                state |= {f"outer.{n}": p for n, p in zip(auxiliary, aux_params, strict=True)}
                return cast("Tensor", functional_call(caller, state, ()))

            return loss

        return cls(functional(train_loss), functional(val_loss), tuple(trainable.values()), tuple(auxiliary.values()))


class _Caller(nn.Module):
    def __init__(self, inner: nn.ModuleList, outer: nn.ModuleList, closure: Callable[[], Tensor]) -> None:
        super().__init__()
        self.inner, self.outer, self.closure = inner, outer, closure

    def forward(self) -> Tensor:
        return self.closure()
