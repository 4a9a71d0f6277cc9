"""Mixed precision with a gradient scaler at both levels: a scale changes nothing, an overflow skips and says so."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auxilearn import hypergradient
from auxilearn.combiners import Linear
from auxilearn.curvature import CompiledHessian, FiniteDifference, GaussNewton, Hessian, LossCurvature, Streamed
from auxilearn.errors import InputError, SolverError, SolverWarning
from auxilearn.optim import MetaOptimizer
from auxilearn.safety import second_order
from auxilearn.solvers import ConjugateGradient, Dense, Identity, LinearSolver, Neumann
from support import DEVICE, normal


class World:
    """A network with three losses, weighted by a combiner."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).to(DEVICE, dtype)
        self.combiner = Linear(3, check_finite=False).to(DEVICE, dtype)
        self.x, self.y = normal(24, 4, dtype=dtype), normal(24, 3, dtype=dtype, seed=1)
        self.params, self.aux = list(self.net.parameters()), list(self.combiner.parameters())
        self.inner = torch.optim.SGD(self.params, lr=0.1, momentum=0.9)

    def loss_of_outputs(self, out: Tensor, y: Tensor) -> Tensor:
        return self.combiner((out - y).square().mean(0))

    def train(self, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        x, y = (self.x[:16], self.y[:16]) if x is None or y is None else (x, y)
        return self.loss_of_outputs(self.net(x), y)

    def outer(self) -> Tensor:
        return (self.net(self.x[16:]) - self.y[16:])[:, 0].square().mean() + 0.1 * self.aux[0].square().sum()

    def operator(self, kind: str, scale: float, damping: float = 0.1) -> LossCurvature:
        settings = {"damping": damping, "loss_scale": scale}
        if kind == "GaussNewton":
            out = self.net(self.x[:16])
            return GaussNewton(self.loss_of_outputs(out, self.y[:16]), out, self.params, **settings)
        if kind == "FiniteDifference":
            return FiniteDifference(self.train, self.params, **settings)
        if kind == "Streamed":
            halves = [(self.x[at], self.y[at]) for at in (slice(0, 8), slice(8, 16))]
            return Streamed(
                lambda batch: Hessian(self.train(*batch), self.params, loss_scale=scale), halves, damping=damping
            )
        if kind == "CompiledHessian":
            compiled = CompiledHessian(self.train, [self.net], backend="aot_eager", damping=damping)
            return compiled(self.x[:16], self.y[:16], loss_scale=scale)
        return Hessian(self.train(), self.params, **settings)


KINDS = ["Hessian", "GaussNewton", "FiniteDifference", "Streamed", "CompiledHessian"]
SOLVERS: dict[str, Callable[[], LinearSolver]] = {
    "Identity": Identity,
    "Neumann": Neumann,
    "fixed step": lambda: Neumann(terms=5, alpha=0.1),
    "ConjugateGradient": ConjugateGradient,
    "preconditioned": lambda: Neumann(
        terms=5, alpha=0.1, preconditioner=[torch.full_like(p, 0.5) for p in World().params]
    ),
}


def error(found: Any, exact: Any) -> float:
    a, b = (torch.cat([t.detach().double().flatten() for t in side]) for side in (found, exact))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("scale", [2.0**24, 2.0**-8])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_scale_changes_nothing_in_the_hypergradient(name: str, scale: float) -> None:
    world = World()
    settings: Any = {"params": world.params, "aux_params": world.aux, "damping": 0.1}
    exact = hypergradient(world.train(), world.outer(), solver=SOLVERS[name](), **settings)
    found = hypergradient(world.train(), world.outer(), solver=SOLVERS[name](), loss_scale=scale, **settings)
    assert error(found.grads, exact.grads) < 1e-12
    assert found.report.products == exact.report.products


@pytest.mark.parametrize("kind", KINDS)
def test_a_scaler_changes_nothing_beside_an_operator(kind: str) -> None:
    def grads(scale: float | None) -> list[Tensor]:
        world = World()
        meta = MetaOptimizer(torch.optim.SGD(world.aux, lr=0.1), solver=ConjugateGradient(), max_grad_norm=0.01)
        scaler = torch.amp.GradScaler(DEVICE.type, init_scale=scale or 1.0, enabled=scale is not None)
        operator = world.operator(kind, scaler.get_scale())
        found = meta.step(operator, world.outer(), (), world.aux, return_grads=True, grad_scaler=scaler)
        scaler.update()
        assert found is not None
        assert not meta.step_was_skipped
        return [*found, *world.aux]

    assert error(grads(2.0**20), grads(None)) < 1e-12


def test_losses_that_are_scaled_by_hand_are_another_problem() -> None:
    """What `grad_scaler=` is for: H and the mixed product scale alike, but damping, steps and metrics do not."""
    world, s = World(), 2.0**8
    settings: Any = {"params": world.params, "aux_params": world.aux}

    def off(solver: LinearSolver, **how: Any) -> float:
        exact = hypergradient(world.train(), world.outer(), **settings, solver=copy.deepcopy(solver), **how)
        found = hypergradient(world.train() * s, world.outer() * s, **settings, solver=solver, **how)
        return error([g / s for g in found.grads], exact.grads)

    assert off(Dense()) < 1e-10
    assert off(Neumann()) < 1e-10  # its step is estimated
    assert off(Dense(), damping=1.0) > 0.1
    assert off(Identity()) > 0.1
    assert off(Neumann(terms=3, alpha=1e-4)) > 0.1


def both_levels(
    world: World, *, half: bool, shared: bool, init_scale: float, steps: int, kind: str | None = None
) -> Any:
    """Train with a scaler for each level, or one for both, and return the errors of the outer steps that were taken."""
    made = [torch.amp.GradScaler(DEVICE.type, init_scale=init_scale, enabled=half) for _ in range(1 if shared else 2)]
    inner, outer = made[0], made[-1]
    # A fixed step, for an estimated one remembers the steps before.
    solver = Neumann(terms=5, alpha=0.1)
    meta = MetaOptimizer(torch.optim.SGD(world.aux, lr=0.1), solver=solver)
    errors, sizes, skipped = [], [], {"inner": 0, "outer": 0}
    for _ in range(steps):
        before = [p.detach().clone() for p in world.params]
        world.inner.zero_grad()
        with torch.autocast(DEVICE.type, torch.float16, enabled=half):
            loss = world.train()
        inner.scale(loss).backward()
        inner.step(world.inner)
        skipped["inner"] += all(map(torch.equal, before, world.params))
        if not shared:
            inner.update()
        phi = [p.detach().clone() for p in world.aux]
        settings: Any = {"params": world.params, "aux_params": world.aux, "solver": solver}
        exact = hypergradient(world.train(), world.outer(), **settings).grads
        with torch.autocast(DEVICE.type, torch.float16, enabled=half), second_order(world.net):
            train: Any = world.train() if kind is None else world.operator(kind, outer.get_scale(), damping=0.0)
            main = world.outer()
        scale = outer.get_scale()
        grads = meta.step(train, main, world.params, world.aux, return_grads=True, grad_scaler=outer)
        outer.update()
        moved = not all(map(torch.equal, phi, world.aux))
        assert moved != meta.step_was_skipped
        if meta.step_was_skipped:
            assert outer.get_scale() == scale / 2
            skipped["outer"] += 1
        else:
            errors.append(error(grads, exact))
            sizes.append(float(torch.cat([g.flatten() for g in exact]).norm()))
    # Beside a hypergradient that passes through zero any rounding is large.
    usual = sorted(sizes)[len(sizes) // 2]
    errors = [e * min(1.0, size / usual) for e, size in zip(errors, sizes, strict=True)]
    return errors, skipped, inner.get_scale(), outer.get_scale()


@pytest.mark.parametrize("shared", [False, True])
def test_a_loop_in_float16_finds_its_scales_and_the_hypergradients_of_float32(shared: bool) -> None:
    world = World(torch.float32)
    errors, skipped, inner, outer = both_levels(world, half=True, shared=shared, init_scale=2.0**24, steps=40)
    assert skipped["inner"] > 3
    assert skipped["outer"] > 3
    assert 1.0 < inner < 2.0**20
    assert 1.0 < outer < 2.0**20
    assert len(errors) > 20
    # `benchmarks/bench_precision.py` finds up to 2.1e-2 in float16, where the gradients of the losses cancel.
    assert sorted(errors)[len(errors) // 2] < 5e-3
    assert max(errors) < 2.1e-2
    assert all(bool(p.isfinite().all()) for p in [*world.params, *world.aux])


@pytest.mark.parametrize("kind", ["Hessian", "Streamed", "CompiledHessian"])
def test_operators_find_their_scale_as_a_loss_does(kind: str) -> None:
    world = World(torch.float32)
    errors, skipped, _, outer = both_levels(world, half=True, shared=False, init_scale=2.0**24, steps=20, kind=kind)
    assert skipped["outer"] > 3
    assert 1.0 < outer < 2.0**20
    assert max(errors) < 2.1e-2


def test_an_outer_loss_may_be_small() -> None:
    world = World(torch.float32)
    exact = hypergradient(world.train(), world.outer(), params=world.params, aux_params=world.aux).grads
    with torch.autocast(DEVICE.type, torch.float16):
        train, main = world.train(), (world.net(world.x[16:]) - world.y[16:])[:, 0].square().mean()
    main = main + 0.1 * world.aux[0].square().sum()
    found = hypergradient(train, 1e-6 * main, params=world.params, aux_params=world.aux, loss_scale=2.0**14)
    assert found.finite
    assert error(found.grads, [1e-6 * g for g in exact]) < 2e-2


@pytest.mark.parametrize("which", ["train", "outer", *KINDS])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_loss_that_overflows_skips_the_step_and_halves_the_scale(which: str, value: float) -> None:
    world = World(torch.float32)
    meta = MetaOptimizer(torch.optim.SGD(world.aux, lr=0.1), on_failure="raise")
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=4.0)
    before = [p.detach().clone() for p in world.aux]

    def losses() -> tuple[Any, Tensor]:
        train, outer = world.train(), world.outer()
        if which in KINDS:
            world.y = world.y + value
            return world.operator(which, scaler.get_scale()), outer
        # Its gradient may be finite all the same.
        return (train + value, outer) if which == "train" else (train, outer + value)

    for scale in (2.0, 1.0):
        meta.step(*losses(), world.params, world.aux, grad_scaler=scaler)
        scaler.update()
        assert meta.step_was_skipped
        assert meta.report is not None
        assert scaler.get_scale() == scale
        assert all(map(torch.equal, before, world.aux))
        assert world.aux[0].grad is None
    # It was not the scale.
    with pytest.raises((InputError, SolverError)):
        meta.step(*losses(), world.params, world.aux, grad_scaler=scaler)
    assert all(map(torch.equal, before, world.aux))


def test_a_failed_solve_under_a_scaler_skips_the_step_and_leaves_the_scale() -> None:
    world = World()
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=8.0)
    settings: Any = {"solver": Neumann(terms=30, alpha=1e3)}
    meta = MetaOptimizer(torch.optim.SGD(world.aux, lr=0.1), on_failure="skip", **settings)
    before = world.aux[0].detach().clone()
    meta.step(world.train(), world.outer(), world.params, world.aux, grad_scaler=scaler)
    scaler.update()  # it was shown a result, or it would complain
    assert meta.step_was_skipped
    assert scaler.get_scale() == 8.0
    assert torch.equal(world.aux[0], before)
    assert world.aux[0].grad is None
    meta = MetaOptimizer(torch.optim.SGD(world.aux, lr=0.1), **settings)
    with pytest.warns(SolverWarning):
        meta.step(world.train(), world.outer(), world.params, world.aux, grad_scaler=scaler)
    assert not meta.step_was_skipped


def test_without_a_scaler_a_step_says_whether_it_was_skipped() -> None:
    world = World()
    meta = MetaOptimizer(torch.optim.SGD(world.aux, lr=0.1), solver=Neumann(terms=30, alpha=1e3), on_failure="skip")
    assert not meta.step_was_skipped
    meta.step(world.train(), world.outer(), world.params, world.aux)
    assert meta.step_was_skipped
    meta.solver = Neumann()
    meta.step(world.train(), world.outer(), world.params, world.aux)
    assert not meta.step_was_skipped


def test_a_hypergradient_that_is_infinite_only_when_scaled_counts_as_an_overflow() -> None:
    world = World(torch.float32)
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=2.0**20)
    meta = MetaOptimizer(torch.optim.SGD(world.aux, lr=0.1), solver=Identity())
    direct = 1e16 * world.aux[0].sum()
    meta.step(world.train(), world.outer() + direct * 2.0**-20, world.params, world.aux, grad_scaler=scaler)
    scaler.update()
    before = world.aux[0].detach().clone()
    meta.step(world.train(), world.outer() + direct, world.params, world.aux, grad_scaler=scaler)
    scaler.update()
    assert meta.step_was_skipped
    assert scaler.get_scale() == 2.0**19
    assert torch.equal(world.aux[0], before)
