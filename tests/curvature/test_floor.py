"""Products do what the bare calls of autograd do and nothing else: the same operators on the same shapes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from auxilearn import Vector, hypergradient
from auxilearn.combiners import Bent, DeepLinear, Linear, LossCombiner, Standardized
from auxilearn.curvature import GaussNewton, Hessian
from auxilearn.solvers import Neumann
from support import DEVICE, DTYPE, normal

Seen = list[tuple[str, tuple[int, ...]]]


class Watching(TorchDispatchMode):
    """Every operator that runs, with the shape of its output; views are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Seen = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and not found._is_view():
            self.seen.append((str(func), tuple(found.shape)))
        return found


def watched(call: Callable[[], object]) -> Seen:
    with Watching() as mode:
        call()
    return mode.seen


class World:
    """A small convolutional network with any number of losses."""

    def __init__(self, losses: int = 3) -> None:
        torch.manual_seed(0)
        layers = nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 5)
        self.net = nn.Sequential(*layers).to(DEVICE, DTYPE)
        self.params = tuple(self.net.parameters())
        self.x = normal(7, 1, 6, 6)
        self.labels = torch.randint(5, (7, losses), generator=torch.Generator().manual_seed(0)).to(DEVICE)

    def logits(self) -> Tensor:
        return self.net(self.x)

    def losses(self, logits: Tensor) -> Tensor:  # (B, K)
        columns = [cross_entropy(logits, self.labels[:, k], reduction="none") for k in range(self.labels.shape[1])]
        return torch.stack(columns, 1)

    def vector(self) -> Vector:
        return Vector(p.detach() for p in self.params)


def test_a_product_with_the_hessian_is_one_bare_call_of_autograd() -> None:
    world = World()
    loss, v = world.losses(world.logits()).mean(), world.vector()
    g = torch.autograd.grad(loss, world.params, create_graph=True)
    H = Hessian(loss, world.params)
    floor = watched(lambda: torch.autograd.grad(g, world.params, v.tensors, retain_graph=True))
    assert watched(lambda: H @ v) == floor


def test_a_product_with_the_gauss_newton_matrix_is_three_bare_calls_of_autograd() -> None:
    world = World()
    z, v, grad = world.logits(), world.vector(), torch.autograd.grad
    loss = world.losses(z).mean()
    (by_outputs,) = grad(loss, z, create_graph=True)
    dual = torch.zeros_like(z, requires_grad=True)
    pullback = grad(z, world.params, dual, create_graph=True)

    def bare() -> None:
        # What does not depend on the dual vector (the last bias) has no graph.
        pairs = [(p, c) for p, c in zip(pullback, v, strict=True) if p.requires_grad]
        (pushed,) = grad([p for p, _ in pairs], dual, [c for _, c in pairs], retain_graph=True)
        (curved,) = grad(by_outputs, z, pushed, retain_graph=True)
        grad(z, world.params, curved, retain_graph=True)

    G = GaussNewton(loss, z, world.params)
    assert watched(lambda: G @ v) == watched(bare)


def outer_products(losses: int, combiner: LossCombiner) -> tuple[int, int]:
    """Return the floating-point operations and the engine calls of the mixed product."""
    world = World(losses)
    H = Hessian(combiner.to(DEVICE, DTYPE)(world.losses(world.logits())), world.params)
    phi, x = list(combiner.parameters()), world.vector()
    calls, engine = [], torch.autograd.grad
    with pytest.MonkeyPatch.context() as patch, FlopCounterMode(display=False) as flops:
        patch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or engine(*a, **k))
        H.cross(x, phi)
    return flops.get_total_flops(), len(calls)


COMBINERS: dict[str, Callable[[int], LossCombiner]] = {
    "linear": Linear,
    "standardised": lambda k: Standardized(Linear(k)),
    "signed": lambda k: Linear(k, monotone=False),
    "bent": Bent,
}


@pytest.mark.parametrize("name", COMBINERS)
def test_the_mixed_product_costs_one_call_and_does_not_grow_with_the_losses(name: str) -> None:
    few, many = (outer_products(k, COMBINERS[name](k)) for k in (2, 40))
    assert few == many
    assert few[1] == 1


def test_a_deep_linear_combiner_adds_its_own_matrices_only() -> None:
    few, many = (outer_products(k, DeepLinear(k, hidden=(4,))) for k in (2, 40))
    assert many[0] - few[0] < 40 * 4 * 20  # some products of (1, 4) by (4, K)


def test_a_hypergradient_calls_autograd_once_for_each_product_and_three_times_besides() -> None:
    counts = []
    for losses in (2, 40):
        world, combiner = World(losses), Linear(losses).to(DEVICE, DTYPE)
        values = world.losses(world.logits())
        train, outer, calls, engine = combiner(values), values[:, 0].mean(), [], torch.autograd.grad
        with pytest.MonkeyPatch.context() as patch, FlopCounterMode(display=False) as flops:
            patch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or engine(*a, **k))  # noqa: B023
            solver = Neumann(terms=4, alpha=1e-3)
            hypergradient(train, outer, params=world.params, aux_params=combiner.parameters(), solver=solver)
        counts.append((len(calls), flops.get_total_flops()))
    assert counts[0] == counts[1]
    assert counts[0][0] == 3 + 4
