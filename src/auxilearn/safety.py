"""Passes through the network that may be differentiated twice and leave no trace in it.

>>> import torch
>>> from auxilearn.safety import second_order
>>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
>>> with second_order(model):
...     loss = model(torch.ones(4, 2)).sum()
>>> int(model[1].num_batches_tracked)
0
"""

# torch leaves the types of these context managers and of `named_modules` open.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction, once_differentiable
from torch.autograd.graph import get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import CheckpointFunction

from auxilearn._checks import explain
from auxilearn.errors import InputError, SecondOrderError

__all__ = ["ReplayedRandomness", "naming_first_order_operators", "refuse_wrong_second_derivatives", "second_order"]


@contextmanager
def second_order(*modules: nn.Module) -> Generator[None, None, None]:
    """Make forward passes twice differentiable, and keep them from changing the modules or the random state.

    Inside the context, attention runs on the math kernel (the fused ones have no second derivative), cuDNN is off
    when a module is recurrent (its kernels have none either), every buffer of ``modules`` is a copy that is thrown
    away at the end (BatchNorm statistics stay as they were, bit by bit), and the random state is put back at the end
    (training continues as though the outer pass had not been). Only the forward pass has to be inside; with activation
    checkpointing (``use_reentrant=False``) also the outer step, for it runs the forward pass again.

    Args:
        *modules: The networks called inside; without any, only kernels and random state are looked after.

    Yields:
        Nothing.

    Raises:
        InputError: If an argument is no module.
        SecondOrderError: If a module is compiled: ``torch.compile`` has no double backward.

    Example:
        >>> model = torch.nn.Dropout(0.5)
        >>> before = torch.get_rng_state()
        >>> with second_order(model):
        ...     _ = model(torch.ones(3))
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    for module in modules:
        _refuse_other_things(module)
        _refuse_compiled(module)
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(m, nn.RNNBase) for module in modules for m in module.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
        stack.enter_context(_borrowed_buffers(modules))
        yield


def _refuse_other_things(module: object) -> None:
    if not isinstance(module, nn.Module):
        finding = f"It was given a `{type(module).__name__}`."
        cure = "Call it as `second_order(model)`, around the forward pass."
        raise InputError(explain("`second_order` takes modules.", finding, cure))


def _refuse_compiled(module: nn.Module) -> None:
    for name, part in module.named_modules():
        # `torch.compile(module)` wraps it, `module.compile()` marks it.
        if hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None:
            raise SecondOrderError(_compiled(f"Module `{name or type(part).__name__}` is compiled."))


@contextmanager
def _borrowed_buffers(modules: tuple[nn.Module, ...]) -> Generator[None, None, None]:
    # Swapping the tensor objects, instead of writing the old values back, keeps the graph of the pass valid: a write
    # would look to autograd like a change of what it saved.
    owners = {id(m): m for module in modules for m in module.modules()}.values()
    kept = [
        (m, name, buffer) for m in owners for name, buffer in m.named_buffers(recurse=False, remove_duplicate=False)
    ]
    copies = {id(buffer): buffer.clone() for _, _, buffer in kept}  # one for a buffer that several modules share
    try:
        for owner, name, buffer in kept:
            setattr(owner, name, copies[id(buffer)])
        yield
    finally:
        for owner, name, buffer in kept:
            setattr(owner, name, buffer)


class ReplayedRandomness:
    """The random state of this moment, to be replayed any number of times.

    Products with a curvature operator that rebuilds its graph must see the same dropout masks each time; otherwise
    they are products with different operators.

    Example:
        >>> replay = ReplayedRandomness()
        >>> with replay():
        ...     first = torch.rand(2)
        >>> with replay():
        ...     second = torch.rand(2)
        >>> torch.equal(first, second)
        True
    """

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    @contextmanager
    def __call__(self) -> Generator[None, None, None]:
        """Run a block from the remembered random state, then put the present one back.

        Yields:
            Nothing.
        """
        with torch.random.fork_rng(devices=range(len(self._cuda))):
            torch.set_rng_state(self._cpu)
            if self._cuda:  # pragma: no cover - needs a GPU
                torch.cuda.set_rng_state_all(self._cuda)
            yield


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
            raise SecondOrderError(_compiled("A compiled module takes part in the training loss.")) from error
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
    for node in _nodes([t.grad_fn for t in outputs], stops):
        if node.name().startswith("WeightNormInterfaceBackward") and _reaches(node, inputs):
            raise SecondOrderError(_wrong_weight_norm())
        if isinstance(node, BackwardCFunction):
            function = cast("Any", node)._forward_cls
            if function is CheckpointFunction:
                raise SecondOrderError(_checkpointed())
            if getattr(function.backward, "__code__", None) is _ONCE and _reaches(node, inputs):
                raise SecondOrderError(_first_order(function.__name__))


def _nodes(roots: Iterable[Any], stops: set[Any]) -> Iterator[Any]:
    # Every node of a graph once; what lies behind the stops is not entered.
    seen: set[Any] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            if node not in stops:
                stack.extend(n for n, _ in node.next_functions)


def _reaches(node: Any, inputs: Iterable[Tensor]) -> bool:
    origins = {get_gradient_edge(p).node for p in inputs}
    return any(n in origins for n in _nodes([n for n, _ in node.next_functions], origins))


def _compiled(finding: str) -> str:
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
