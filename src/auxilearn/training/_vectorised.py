"""Models trained as one: a weight is a stack, and ``torch.func.vmap`` maps the user's code over it."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from itertools import chain
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from auxilearn.safety import second_order
from auxilearn.training._fleet import Fleet
from auxilearn.training._looped import Looped, evaluating
from auxilearn.training._problem import Batch, Measured, Problem
from auxilearn.training._returned import checked_logits, checked_losses, logits_by, measured_by


@final
class Vectorised(Fleet):
    """All models in one pass: each weight is a stack of M, and ``torch.func.vmap`` maps the user's code over it.

    Args:
        problem: The problem.
        models: The models, equal but for their weights.
    """

    def __init__(self, problem: Problem, models: Sequence[nn.Module]) -> None:
        self._problem, self._skeleton, self.size = problem, models[0], len(models)
        params, buffers = stack_module_state(list(models))
        trainable = {name: p.requires_grad for name, p in models[0].named_parameters()}
        self._state = nn.Module()  # owns the stacked tensors, so that they are saved and borrowed like any module's
        self._params = {name: nn.Parameter(p.detach(), trainable[name]) for name, p in params.items()}
        self._names = list(params) + list(buffers)
        self._places = _places(models[0])
        for name, p in self._params.items():
            self._state.register_parameter(_plain(name), p)
        for name, b in buffers.items():
            self._state.register_buffer(_plain(name), b.detach())
        self.params = tuple(p for p in self._params.values() if p.requires_grad)
        self.device = next(iter(self._params.values())).device

    def _map(self, function: Callable[[nn.Module], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        caller = _Caller(self._skeleton, function)

        def one(state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            placed = {f"model.{place}": state[name] for place, name in self._places.items()}
            return functional_call(caller, placed, (), tie_weights=False)

        state = {name: cast("Tensor", getattr(self._state, _plain(name))) for name in self._names}
        with sdpa_kernel(SDPBackend.MATH):  # vmap has no rule for the fused kernels
            first, second = vmap(one, randomness="different")(state)
        return first, second[0]  # the second depends on the batch alone

    def measure(self, batch: Batch, labelled: Tensor | None) -> Measured:
        problem = self._problem
        return Measured(*self._map(lambda model: checked_losses(measured_by(problem, model, batch), problem, labelled)))

    @torch.no_grad()
    def logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        problem = self._problem
        with evaluating(self._skeleton):
            return self._map(lambda model: checked_logits(logits_by(problem, model, batch)))

    def module(self, index: int) -> nn.Module:
        model = deepcopy(self._skeleton)
        with torch.no_grad():
            for name, t in chain(model.named_parameters(), model.named_buffers()):
                t.copy_(getattr(self._state, _plain(name))[index])
        return model

    def train(self, mode: bool = True) -> None:
        self._skeleton.train(mode)

    @torch.no_grad()
    def clip(self, norm: float) -> None:
        grads = [p.grad for p in self.params if p.grad is not None]  # each (M, ...)
        norms = torch.stack([g.reshape(self.size, -1).square().sum(1) for g in grads]).sum(0).sqrt()
        factor = (norm / (norms + 1e-6)).clamp(max=1.0)  # as torch's own
        for g in grads:
            g.mul_(factor.view(-1, *(1,) * (g.dim() - 1)))

    def second_order(self) -> AbstractContextManager[None]:
        return second_order(self._state, self._skeleton)

    def state_dict(self) -> dict[str, Any]:
        return self._state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state.load_state_dict(state)


@final
class _Caller(nn.Module):
    # functional_call swaps the weights of a module's call, and the user's code is a function that calls the model.
    def __init__(self, model: nn.Module, function: Callable[[nn.Module], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.model, self._function = model, function

    def forward(self) -> tuple[Tensor, Tensor]:
        return self._function(self.model)


def _places(model: nn.Module) -> dict[str, str]:
    # Where each weight and buffer has to be put, and under what name torch lists it: a tied weight has several places.
    # A module that is part of two others is one place; `functional_call` takes it for two, and leaves ours in it.
    listed = {id(t): name for name, t in chain(model.named_parameters(), model.named_buffers())}
    found: dict[str, str] = {}
    for path, module in cast("Iterable[tuple[str, nn.Module]]", model.named_modules()):
        own = chain(
            module.named_parameters(recurse=False, remove_duplicate=False),
            module.named_buffers(recurse=False, remove_duplicate=False),
        )
        found.update({f"{path}.{name}" if path else name: listed[id(t)] for name, t in own})
    return found


def _plain(name: str) -> str:
    return name.replace(".", "/")  # a module's own names must not hold dots


def fleet(problem: Problem, start: nn.Module, size: int, batch: Batch, labelled: Tensor | None) -> Fleet:
    """Build a fleet of copies of a model, vectorised if the model allows it.

    It does if ``vmap`` accepts the user's code, and computes on a batch what the code computes by itself.

    Args:
        problem: The problem.
        start: The model to copy.
        size: M.
        batch: A batch to try on.
        labelled: See :meth:`Fleet.measure`.

    Returns:
        The fleet.
    """
    looped = Looped(problem, [deepcopy(start) for _ in range(size)])
    if size == 1:
        return looped
    alone = Looped(problem, [start])
    with torch.no_grad(), evaluating(start), alone.second_order():
        expected = alone.measure(batch, labelled).values
    try:
        vectorised = Vectorised(problem, [looped.module(m) for m in range(size)])
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("error", message="There is a performance drop")  # a loop inside, slower than ours
            with vectorised.second_order():
                vectorised.measure(batch, labelled)  # in training mode, where a model may do what vmap refuses
            vectorised.train(False)
            with vectorised.second_order():
                found = vectorised.measure(batch, labelled).values
    except Exception:
        # The user's code runs by itself, as was just seen. vmap refuses data-dependent control flow, `.item()`, writes
        # and some operators in words of its own, and code that looks at shapes or types may stumble over its tensors.
        return looped
    vectorised.train()
    return vectorised if torch.allclose(found, expected.expand_as(found), rtol=1e-3, atol=1e-4) else looped
