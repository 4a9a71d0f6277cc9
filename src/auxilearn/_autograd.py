"""Calls of autograd with the library's two conventions: unused inputs give None, and complaints name the cure."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from auxilearn._checks import explain
from auxilearn._second_order import naming_first_order_operators, refuse_wrong_second_derivatives
from auxilearn._vectors import Vector, is_distributed
from auxilearn.errors import InputError

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
        One gradient, or None, for each input; sparse ones are made dense.

    Raises:
        InputError: If the graph was freed, a tensor in it was changed, or checkpointing cannot rebuild it.
        SecondOrderError: If the result is to be differentiated again and an operator has no second derivative.
        RuntimeError: Every other error of torch, unchanged.
    """
    if create_graph:
        refuse_wrong_second_derivatives([outputs] if isinstance(outputs, Tensor) else outputs, inputs)
    try:
        with naming_first_order_operators():
            found = torch.autograd.grad(
                outputs,
                inputs,
                grad_outputs=cotangents,
                create_graph=create_graph,
                retain_graph=retain_graph or create_graph,
                allow_unused=True,
            )
    except RuntimeError as error:
        _explain_stale_graph(error)
        raise
    return tuple(_tidy(g, p) for g, p in zip(cast("Optional", found), inputs, strict=True))


def _tidy(g: Tensor | None, p: Tensor) -> Tensor | None:
    if g is None:
        return None
    # The gradient of a replicated DTensor may come as parts that are still to be summed.
    if is_distributed(g) and is_distributed(p) and cast("Any", g).placements != cast("Any", p).placements:
        return cast("Tensor", cast("Any", g).redistribute(placements=cast("Any", p).placements))
    # An embedding with `sparse=True` has sparse gradients, on which torch defines no inner product.
    return g.to_dense() if g.is_sparse else g


def _explain_stale_graph(error: RuntimeError) -> None:
    rule = "The losses must still have the graphs that they were computed with."
    cure = "Compute both losses anew for the outer step, with the present weights"
    if "backward through the graph a second time" in str(error):
        finding = "A graph was freed, by `backward()` or by an earlier loss of a generator that shares it."
        raise InputError(explain(rule, finding, f"{cure}, or use `backward(retain_graph=True)`.")) from error
    if "modified by an inplace operation" in str(error):
        finding = "A tensor was changed in place since, e.g. a weight by an optimizer."
        raise InputError(explain(rule, finding, f"{cure}.")) from error
    if "storage of size 0" in str(error) or "data is not allocated" in str(error):
        raise InputError(freed()) from error
    rule = "Activation checkpointing must run the forward pass again as it ran the first time."
    if "device meta" in str(error):
        finding = "The twin `auxilearn.distributed.Unsharded` has given the weights back."
        cure = "Take the outer step inside the `with plain.of(model)` of the losses."
        raise InputError(explain(rule, finding, cure)) from error
    if isinstance(error, CheckpointError):
        finding = "It did something else, e.g. picked other kernels."
        cure = "Take the outer step inside the `auxilearn.safety.second_order(model)` of the losses."
        raise InputError(explain(rule, finding, cure)) from error


def refuse_freed(params: Iterable[Tensor], /) -> None:
    """Refuse gathered weights of a sharded network, which were freed since.

    Args:
        params: Weights.

    Raises:
        InputError: If there are some.
    """
    if any(not is_distributed(p) and p.numel() and not p.untyped_storage().size() for p in params):
        raise InputError(freed())


def freed() -> str:
    """Say that the losses were computed by a network that is sharded, or with weights that were listed before.

    Returns:
        The message.
    """
    return explain(
        "The weights that the losses were computed with must still be there.",
        "They were gathered for a pass, by `fully_shard`, and freed.",
        "Compute the losses of the outer step with the twin `auxilearn.distributed.Unsharded`, and list "
        "`model.parameters()` afterwards.",
    )


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
    refuse_freed(p for p, g in zip(params, found, strict=True) if g is None)
    if not pairs:
        raise InputError(
            explain(
                f"`params` must reach `{name}`.",
                f"None of the {len(params)} tensors does.",
                "Did you detach the loss, or pass the auxiliary network's parameters?"
                if not any(map(is_distributed, params))
                else "Of a sharded network, compute it with the twin `auxilearn.distributed.Unsharded`.",
            )
        )
    return tuple(p for p, _ in pairs), tuple(g for _, g in pairs)
