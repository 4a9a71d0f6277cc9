"""Drawing, normalising and clamping the weights of one layer."""

from typing import Any, TypeVar, cast, final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized, register_parametrization

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def drawn(layer: Layer, lower: float | None, upper: float | None, *, normalize: bool) -> Layer:
    """Draw the weights of a new layer uniformly, and set its bias to 0.

    Args:
        layer: The layer.
        lower: The smallest weight, 0 if None.
        upper: The largest weight, 1 if None.
        normalize: Whether to apply weight norm afterwards.

    Returns:
        The layer.
    """
    nn.init.uniform_(layer.weight, a=0.0 if lower is None else lower, b=1.0 if upper is None else upper)
    if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison] - the stub forgets `bias=False`
        nn.init.zeros_(layer.bias)
    return normalized(layer) if normalize else layer


def normalized(layer: Layer) -> Layer:
    """Apply weight norm to a layer; see :class:`WeightNorm`.

    Args:
        layer: The layer.

    Returns:
        The layer.
    """
    register_parametrization(layer, "weight", WeightNorm())
    layer.register_load_state_dict_pre_hook(_rename_original)
    return layer


@final
class WeightNorm(nn.Module):
    r"""Weights as length times direction, for each output of a layer.

    .. math:: w = g\, v / \|v\|

    It stands in for :func:`torch.nn.utils.parametrizations.weight_norm`, whose kernel ``torch._weight_norm`` returns a
    wrong second derivative in :math:`v`, without a warning (it takes the norm for a constant; seen in torch 2.14).
    Weights of 0 have length 0 in the direction of equal weights, so there is no division by 0.

    Example:
        >>> linear = normalized(nn.Linear(2, 1, bias=False))
        >>> linear.weight = torch.tensor([[3.0, 4.0]])
        >>> linear.parametrizations.weight.original0.item()
        5.0

    References:
        Salimans and Kingma, "Weight normalization", NeurIPS 2016, Eq. (2).
    """

    def forward(self, length: Tensor, direction: Tensor, /) -> Tensor:
        """Compute the weights.

        Args:
            length: :math:`g`, ``(outputs, 1, …)``.
            direction: :math:`v`, ``(outputs, inputs, …)``.

        Returns:
            :math:`w`, of the shape of the direction.
        """
        return length / _norm(direction) * direction

    def right_inverse(self, weight: Tensor, /) -> tuple[Tensor, Tensor]:
        """Split weights.

        Args:
            weight: :math:`w`.

        Returns:
            Length and direction.
        """
        norm = _norm(weight)
        return norm, torch.where(norm == 0, 1.0, weight)


def clamp_weights(layer: nn.Linear | nn.Conv2d) -> None:
    """Replace negative weights by 0, in place; under weight norm, without ever leaving a direction of length 0.

    Args:
        layer: The layer.
    """
    if not is_parametrized(layer, "weight"):
        layer.weight.clamp_(min=0)
        return
    factors = cast("ParametrizationList", cast("nn.ModuleDict", layer.parametrizations)["weight"])
    length, direction = cast("Tensor", factors.original0), cast("Tensor", factors.original1)
    signed = torch.where(length < 0, -direction, direction)
    kept = signed.clamp(min=0)  # the direction without the entries where g v < 0
    norm, norm_kept = _norm(direction), _norm(kept)
    negative = (signed < 0).any(tuple(range(1, signed.ndim)), keepdim=True)
    empty = norm_kept == 0  # nothing is left: w = 0, and a direction from which to grow again, equal for all
    length.copy_(torch.where(empty, 0.0, torch.where(negative, length.abs() * norm_kept / norm, length)))
    direction.copy_(torch.where(empty, 1.0, torch.where(negative, kept, direction)))


def _norm(weight: Tensor) -> Tensor:
    return cast("Tensor", torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True))


def _rename_original(layer: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    # The original's weight norm, `torch.nn.utils.weight_norm`, has other names for the two factors.
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        if f"{prefix}{old}" in state:
            state[f"{prefix}parametrizations.weight.{new}"] = state.pop(f"{prefix}{old}")
