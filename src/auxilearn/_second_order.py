"""Operators that torch cannot differentiate twice, or differentiates wrongly: found, and named with the cure."""

import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction, once_differentiable
from torch.autograd.graph import get_gradient_edge
from torch.utils.checkpoint import CheckpointFunction

from auxilearn._checks import explain
from auxilearn.errors import SecondOrderError

# What torch says when an operator has no second derivative, and where the operator's name stands in it.
_NO_SECOND_DERIVATIVE = (
    re.compile(r"derivative (?:for|of) '?(?P<op>[\w:]+)(?:: \w+)?'? (?:is|has) not (?:been )?implemented"),
    re.compile(r"differentiate twice a function that was marked with @once_differentiable(?P<op>)"),
    re.compile(r"[Dd]ouble backwards? on (?P<op>[\w:]+) (?:is )?not supported"),  # torchvision's operators
    re.compile(r"(?P<op>[\w:]*cudnn_rnn\w*)"),
)


@contextmanager
def naming_first_order_operators() -> Generator[None, None, None]:
    """Translate torch's complaint about a missing second derivative into one that names the operator and the cure.

    Yields:
        Nothing.

    Raises:
        SecondOrderError: In place of the ``RuntimeError`` of torch.
        RuntimeError: Every other error of torch, unchanged.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "does not currently support double backward" in text:
            raise SecondOrderError(compiled("A compiled module takes part in the training loss.")) from error
        for pattern in _NO_SECOND_DERIVATIVE:
            if found := pattern.search(text):
                operator = found["op"] or "a function marked with @once_differentiable"
                raise SecondOrderError(_first_order(operator)) from error
        raise


# All functions that the decorator returns share one code object.
_ONCE = cast("Any", once_differentiable(abs)).__code__


def refuse_wrong_second_derivatives(outputs: Iterable[Tensor], inputs: Iterable[Tensor], /) -> None:
    """Look for functions between a loss and what it is differentiated by twice whose second derivative is wrong.

    For a function marked with ``@once_differentiable`` torch raises only where a second derivative runs through the
    function's gradient, and leaves the part that runs through its saved tensors out without a word; so it does with the
    parameters inside re-entrant checkpointing. Its weight norm takes the norm for a constant when it is differentiated
    again. The curvature would be silently wrong.

    Args:
        outputs: The differentiated tensors.
        inputs: What they are differentiated by.

    Raises:
        SecondOrderError: If there is one; the message names it.
    """
    inputs = tuple(inputs)
    stops = {p.grad_fn for p in inputs if p.grad_fn is not None}
    for node in nodes([t.grad_fn for t in outputs], stops):
        if node.name().startswith("WeightNormInterfaceBackward") and _reaches(node, inputs):
            raise SecondOrderError(_wrong_weight_norm())
        if isinstance(node, BackwardCFunction):
            function = cast("Any", node)._forward_cls
            if function is CheckpointFunction:
                raise SecondOrderError(_checkpointed())
            if function.__name__ in _DTENSOR and _cuts(node, function.__name__, inputs):
                raise SecondOrderError(_tensor_parallel())
            if getattr(function.backward, "__code__", None) is _ONCE and _reaches(node, inputs):
                raise SecondOrderError(_first_order(function.__name__))


_DTENSOR = ("_FromTorchTensor", "_ToTorchTensor", "Redistribute")


def _cuts(node: Any, name: str, inputs: Iterable[Tensor]) -> bool:
    # DTensor's conversions: the gradient that comes back from a local input has no graph (torch 2.6 to 2.14), that from
    # a local output or a new placement has none in older releases.
    return _reaches(node, inputs) and (name == "_FromTorchTensor" or not _conversions_keep_graphs(inputs))


def _conversions_keep_graphs(inputs: Iterable[Tensor]) -> bool:
    meshes = [cast("Any", p).device_mesh for p in inputs if hasattr(p, "device_mesh")]
    if not meshes:
        return False
    from torch.distributed.tensor import DTensor, Replicate

    # Copies on every rank are converted without a message.
    everywhere = [Replicate()] * meshes[0].ndim
    p: Any = DTensor.from_local(torch.ones(1, device=meshes[0].device_type), meshes[0], everywhere, run_check=False)
    p = p.detach().requires_grad_()
    with torch.enable_grad():
        local = p.redistribute(placements=everywhere).to_local()
        slope = cast("Any", torch.autograd).grad(local.pow(3).sum(), p, create_graph=True)[0]
    return slope.grad_fn is not None


def nodes(roots: Iterable[Any], stops: set[Any], /) -> list[Any]:
    """List every node of a graph once.

    Args:
        roots: Where to begin; None is passed over.
        stops: Nodes behind which nothing is looked at.

    Returns:
        The nodes.
    """
    # It runs at every outer step, hence no generator.
    found = [node for node in dict.fromkeys(roots) if node is not None]
    seen = set(found)
    for node in found:  # grows while it is read
        if node not in stops:
            for following, _ in node.next_functions:
                if following is not None and following not in seen:
                    seen.add(following)
                    found.append(following)
    return found


def _reaches(node: Any, inputs: Iterable[Tensor]) -> bool:
    origins = {get_gradient_edge(p).node for p in inputs}
    return any(n in origins for n in nodes([n for n, _ in node.next_functions], origins))


def half_types(outputs: Iterable[Tensor], inputs: Iterable[Tensor], /) -> frozenset[torch.dtype]:
    """Say in which half precisions something between a loss and what it is differentiated by was computed.

    Args:
        outputs: The differentiated tensors.
        inputs: What they are differentiated by.

    Returns:
        The floating-point types of fewer than four bytes among those of the graph and the inputs.
    """
    inputs = tuple(inputs)
    stops = {p.grad_fn for p in inputs if p.grad_fn is not None}
    found = nodes([t.grad_fn for t in outputs], stops)
    kinds = {meta.dtype for node in found for meta in getattr(node, "_input_metadata", ())}
    kinds.update(p.dtype for p in inputs)
    return frozenset(kind for kind in kinds if kind.is_floating_point and kind.itemsize < 4)


def compiled(finding: str) -> str:
    """Say that a compiled module cannot be differentiated twice.

    Args:
        finding: What was found compiled.

    Returns:
        The message.
    """
    return explain(
        "The training loss must be twice differentiable, and torch.compile is not.",
        finding,
        "For the outer pass call the original, `model._orig_mod`, which shares the parameters, or compute the losses "
        'inside `torch.compiler.set_stance("force_eager")`; or use `auxilearn.curvature.FiniteDifference`.',
    )


def _wrong_weight_norm() -> str:
    return explain(
        "The training loss must be twice differentiable.",
        "torch's weight norm gives a wrong second derivative without a word (`gradgradcheck` fails on it).",
        "Write the weight as `g * v / v.norm(dim=1, keepdim=True)`, or use `auxilearn.curvature.FiniteDifference`.",
    )


def _tensor_parallel() -> str:
    return explain(
        "The training loss must be twice differentiable.",
        "Weights stand before a tensor-parallel layer, at whose input torch cuts the second derivative from the graph "
        "without a word.",
        "Compute the losses of the outer step with the twin `auxilearn.distributed.Unsharded`, built from the network "
        "before `parallelize_module`.",
    )


def _checkpointed() -> str:
    return explain(
        "The training loss must be twice differentiable.",
        "Re-entrant activation checkpointing takes part in it, which knows only `backward()`.",
        "Call `checkpoint(..., use_reentrant=False)`, and take the outer step inside "
        "`auxilearn.safety.second_order(model)`, too.",
    )


def _first_order(operator: str) -> str:
    return explain(
        "The training loss must be twice differentiable.",
        f"The operator `{operator}` has no second derivative.",
        "Compute the loss inside `auxilearn.safety.second_order(model)`, which picks kernels that have one; "
        "if none exists, use `auxilearn.curvature.FiniteDifference`.",
    )
