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

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import final

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from auxilearn._checks import explain
from auxilearn._second_order import compiled
from auxilearn.errors import InputError, SecondOrderError

__all__ = ["ReplayedRandomness", "second_order"]


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
            raise SecondOrderError(compiled(f"Module `{name or type(part).__name__}` is compiled."))


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


@final
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
