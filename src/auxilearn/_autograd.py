"""Calls of autograd with the library's two conventions: unused inputs give None, and complaints name the cure."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn._vectors import Vector
from auxilearn.errors import InputError
from auxilearn.safety import naming_first_order_operators

Optional = tuple[Tensor | None, ...]


def gradients(
    outputs: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool = True,
) -> Optional:
    """Take a vector-Jacobian product; None stands for an input that the outputs do not depend on.

    Args:
        outputs: The differentiated tensors.
        inputs: The tensors to differentiate by.
        cotangents: One tensor for each output; None for a scalar output.
        create_graph: Whether the result is differentiated again.
        retain_graph: Whether the graph is used again.

    Returns:
        One gradient, or None, for each input.
    """
    with naming_first_order_operators():
        found = torch.autograd.grad(
            outputs,
            inputs,
            grad_outputs=cotangents,
            create_graph=create_graph,
            retain_graph=retain_graph or create_graph,
            allow_unused=True,
        )
    return cast("Optional", found)


def filled(values: Optional, like: Sequence[Tensor], /) -> Vector:
    """Put zeros where a gradient is None.

    Args:
        values: Gradients, or None.
        like: Tensors of the shapes wanted.

    Returns:
        The vector.
    """
    return Vector(torch.zeros_like(t) if g is None else g for g, t in zip(values, like, strict=True))


def reached(name: str, params: Sequence[Tensor], found: Optional, /) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Keep the parameters that a loss depends on, with their gradients.

    Args:
        name: The loss's name, for the message.
        params: The parameters.
        found: Their gradients, or None.

    Returns:
        The parameters reached, and their gradients.

    Raises:
        InputError: If the loss reaches none of them.
    """
    pairs = [(p, g) for p, g in zip(params, found, strict=True) if g is not None]
    if not pairs:
        raise InputError(
            explain(
                f"`params` must reach `{name}`.",
                f"None of the {len(params)} tensors does.",
                "Did you detach the loss, or pass the auxiliary network's parameters?",
            )
        )
    return tuple(p for p, _ in pairs), tuple(g for _, g in pairs)
