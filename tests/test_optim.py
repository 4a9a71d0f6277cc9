"""MetaOptimizer: the original package's loop and numbers, every torch optimizer, and the rest of a training script."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from auxilearn.curvature import Hessian, Streamed
from auxilearn.errors import InputError
from auxilearn.optim import MetaOptimizer
from auxilearn.safety import second_order
from auxilearn.solvers import ConjugateGradient, Identity, Neumann, WarmStart
from support import DEVICE, DTYPE

K = 3


class World:
    """A small primary network with K losses, an auxiliary network that weights them, and a stream of batches."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = DTYPE) -> None:
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(64, 4, generator=g, dtype=dtype).to(DEVICE)
        self.y = torch.randn(64, K, generator=g, dtype=dtype).to(DEVICE)
        self.primary = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, K)).to(DEVICE, dtype)
        self.auxiliary = nn.Linear(K, 1, bias=False).to(DEVICE, dtype)
        with torch.no_grad():
            for p in [*self.primary.parameters(), *self.auxiliary.parameters()]:
                p.copy_(torch.randn(p.shape, generator=g, dtype=dtype) / 2)
            self.auxiliary.weight.abs_()
        self.primary_optimizer = torch.optim.SGD(self.primary.parameters(), lr=0.05)

    def losses(self, rows: slice) -> torch.Tensor:
        return (self.primary(self.x[rows]) - self.y[rows]).square()  # (B, K)

    def loss_func(self, train: bool) -> torch.Tensor:
        return self.auxiliary(self.losses(slice(0, 48))).mean() if train else self.losses(slice(48, 64))[:, 0].mean()

    def train_step(self) -> None:
        self.primary_optimizer.zero_grad()
        self.loss_func(train=True).backward()
        self.primary_optimizer.step()

    def outer_step(self, meta: MetaOptimizer, **settings: object) -> list[torch.Tensor] | None:
        return meta.step(
            self.loss_func(train=True),
            self.loss_func(train=False),
            self.primary.parameters(),
            self.auxiliary.parameters(),
            **settings,
        )

    def explicit_hypergradient(self, alpha: float, terms: int) -> torch.Tensor:
        """−(∂_φ∂_W L)ᵀ Σ_{j≤J} (I − αH)ʲ ∂_W L_A, from dense matrices of the functions of flat parameters."""
        shapes = [p.shape for p in self.primary.parameters()]
        flat = torch.cat([p.detach().reshape(-1) for p in self.primary.parameters()])
        phi = self.auxiliary.weight.detach().clone()

        def losses(w: torch.Tensor, rows: slice) -> torch.Tensor:
            w1, b1, w2, b2 = (
                part.reshape(s) for part, s in zip(w.split([s.numel() for s in shapes]), shapes, strict=True)
            )
            return (torch.tanh(self.x[rows] @ w1.T + b1) @ w2.T + b2 - self.y[rows]).square()

        def train(w: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
            return (losses(w, slice(0, 48)) @ p.T).mean()

        v = torch.func.grad(lambda w: losses(w, slice(48, 64))[:, 0].mean())(flat)
        H = torch.func.hessian(train)(flat, phi)
        mixed = torch.func.jacrev(torch.func.grad(train), argnums=1)(flat, phi).squeeze(1)  # (n, K)
        step = torch.eye(len(flat), dtype=H.dtype, device=H.device) - alpha * H
        total = sum(torch.linalg.matrix_power(step, j) @ v for j in range(terms + 1))
        return -(mixed.T @ total)[None]


def clipped(g: torch.Tensor, norm: float) -> torch.Tensor:
    return g * min(1.0, norm / (float(g.norm()) + 1e-6))


def test_the_loop_of_the_original_readme_runs_and_moves_the_weights() -> None:
    world = World(dtype=torch.float32)
    primary_model, auxiliary_model, loss_func = world.primary, world.auxiliary, world.loss_func
    before = auxiliary_model.weight.detach().clone()
    epochs, train_loder, aux_params_update_every = 2, range(10), 5

    # From here on as it is printed there, names and misspelling included.
    primary_optimizer = torch.optim.Adam(primary_model.parameters())

    aux_lr = 1e-4
    aux_base_optimizer = torch.optim.Adam(auxiliary_model.parameters(), lr=aux_lr)
    aux_optimizer = MetaOptimizer(aux_base_optimizer, hpo_lr=aux_lr)

    # training loop
    step = 0
    for _epoch in range(epochs):
        for _batch in train_loder:
            step += 1
            # calculate batch loss using 'primary_model' and 'auxiliary_model'
            primary_optimizer.zero_grad()
            loss = loss_func(train=True)
            # update primary parameters
            loss.backward()
            primary_optimizer.step()

            # condition for updating auxiliary parameters
            if step % aux_params_update_every == 0:
                # calc current train loss
                train_set_loss = loss_func(train=True)
                # calc current auxiliary set loss - this is the loss over the main task
                auxiliary_set_loss = loss_func(train=False)

                # update auxiliary parameters - no need to call loss.backwards() or aux_optimizer.zero_grad()
                aux_optimizer.step(
                    val_loss=auxiliary_set_loss,
                    train_loss=train_set_loss,
                    aux_params=auxiliary_model.parameters(),
                    parameters=primary_model.parameters(),
                )

    assert aux_optimizer.report is not None
    assert aux_optimizer.report.products == 3
    moved = (auxiliary_model.weight.detach() - before).abs()
    assert bool((moved > 1e-5).all())  # four Adam steps of 1e-4


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize(("alpha", "terms"), [(1e-4, 3), (0.1, 3), (0.1, 10)])
def test_twenty_steps_with_hpo_lr_equal_the_formula_with_an_explicit_hessian(
    name: str, alpha: float, terms: int
) -> None:
    world = World(dtype=torch.float64)
    settings = {"lr": 1e-2, "momentum": 0.9} if name == "SGD" else {"lr": 1e-2}
    make = getattr(torch.optim, name)
    meta = MetaOptimizer(make(world.auxiliary.parameters(), **settings), alpha, terms, max_grad_norm=0.5)
    reference = world.auxiliary.weight.detach().clone().requires_grad_()
    reference_optimizer = make([reference], **settings)
    clippings = 0
    for _ in range(20):
        world.train_step()
        g = world.explicit_hypergradient(alpha, terms)
        clippings += float(g.norm()) > 0.5
        reference.grad = clipped(g, 0.5)
        reference_optimizer.step()
        returned = world.outer_step(meta, return_grads=True)
        assert returned is not None
        torch.testing.assert_close(returned[0], g, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(world.auxiliary.weight.detach(), reference.detach(), rtol=0, atol=1e-12)
    assert clippings > 0  # the clipping was active


def every_optimizer() -> list[str]:
    names = [n for n in dir(torch.optim) if isinstance(getattr(torch.optim, n), type)]
    classes = [n for n in names if issubclass(getattr(torch.optim, n), torch.optim.Optimizer)]
    # SparseAdam refuses dense gradients, and a hypergradient is dense.
    return sorted(set(classes) - {"Optimizer", "SparseAdam"})


@pytest.mark.parametrize("name", every_optimizer())
def test_every_torch_optimizer_gets_the_clipped_hypergradient(name: str) -> None:
    world = World()
    settings = {"max_iter": 1, "lr": 0.1} if name == "LBFGS" else {"lr": 0.1}
    make = getattr(torch.optim, name)
    try:
        bare = make(world.auxiliary.parameters(), **settings)
    except ValueError as refusal:  # Muon takes matrices only; ours is one
        pytest.skip(str(refusal))
    meta = MetaOptimizer(bare, max_grad_norm=0.01)
    before = world.auxiliary.weight.detach().clone()
    expected = before.clone().requires_grad_()
    twin = make([expected], **settings)
    grads = world.outer_step(meta, return_grads=True)
    assert grads is not None
    expected.grad = clipped(grads[0], 0.01)
    twin.step(lambda: 0.0)
    torch.testing.assert_close(world.auxiliary.weight, expected)
    assert not torch.equal(world.auxiliary.weight, before)


def test_the_default_solver_is_guarded_and_scaled() -> None:
    meta = MetaOptimizer(torch.optim.SGD(World().auxiliary.parameters(), lr=0.1), truncate_iter=5)
    assert meta.solver == Neumann(terms=5, alpha="auto", scaled=True)


def test_positional_and_keyword_calls_are_the_same() -> None:
    results = []
    for by_keyword in (False, True):
        world = World()
        meta = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1), hpo_lr=0.1)
        train, val = world.loss_func(train=True), world.loss_func(train=False)
        params, aux = world.primary.parameters(), world.auxiliary.parameters()
        if by_keyword:
            grads = meta.step(train_loss=train, val_loss=val, aux_params=aux, parameters=params, return_grads=True)
        else:
            grads = meta.step(train, val, params, aux, True)
        assert grads is not None
        results.append(grads[0])
    assert torch.equal(*results)


def test_nothing_is_returned_unless_asked_for() -> None:
    world = World()
    assert world.outer_step(MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1))) is None


def test_returned_gradients_are_not_clipped() -> None:
    world = World()
    meta = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1), max_grad_norm=1e-6)
    grads = world.outer_step(meta, return_grads=True)
    assert grads is not None
    assert float(grads[0].norm()) > 1e-4
    assert float(world.auxiliary.weight.grad.norm()) <= 1.001e-6


def test_no_clipping_on_request() -> None:
    world = World()
    meta = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1), max_grad_norm=None)
    grads = world.outer_step(meta, return_grads=True)
    assert grads is not None
    assert torch.equal(world.auxiliary.weight.grad, grads[0])


def test_the_primary_network_is_not_touched() -> None:
    world = World()
    world.train_step()
    before = copy.deepcopy(world.primary.state_dict())
    gradients = [p.grad.clone() for p in world.primary.parameters()]
    world.outer_step(MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1)))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), world.primary.state_dict().values(), strict=True))
    assert all(torch.equal(g, p.grad) for g, p in zip(gradients, world.primary.parameters(), strict=True))


def test_frozen_and_unused_parameters_of_both_levels_are_left_alone() -> None:
    world = World()
    frozen, unused = nn.Parameter(torch.ones(2)).requires_grad_(False), nn.Parameter(torch.ones(3))
    unused_phi = nn.Parameter(torch.ones(3, dtype=DTYPE, device=DEVICE))
    frozen_phi = nn.Parameter(torch.ones(1)).requires_grad_(False)
    unused.data = unused.data.to(DEVICE, DTYPE)
    aux = [*world.auxiliary.parameters(), unused_phi, frozen_phi]
    meta = MetaOptimizer(torch.optim.SGD(aux, lr=0.1))
    params = [frozen, *world.primary.parameters(), unused]
    grads = meta.step(world.loss_func(True), world.loss_func(False), params, aux, return_grads=True)
    assert grads is not None
    assert [tuple(g.shape) for g in grads] == [(1, K), (3,)]
    assert torch.equal(unused_phi, torch.ones_like(unused_phi))

    alone = World()
    expected = alone.outer_step(MetaOptimizer(torch.optim.SGD(alone.auxiliary.parameters(), lr=0.1)), return_grads=True)
    assert expected is not None
    assert torch.equal(grads[0], expected[0])


def test_parameters_shared_between_the_levels_belong_to_the_outer_one() -> None:
    world = World()
    shared = world.primary[2].bias
    aux = [*world.auxiliary.parameters(), shared]
    meta = MetaOptimizer(torch.optim.SGD(aux, lr=0.1), solver=ConjugateGradient(max_steps=5))
    grads = meta.step(world.loss_func(True), world.loss_func(False), world.primary.parameters(), aux, return_grads=True)
    twin = World()
    inner = [p for p in twin.primary.parameters() if p is not twin.primary[2].bias]
    twin_aux = [*twin.auxiliary.parameters(), twin.primary[2].bias]
    twin_meta = MetaOptimizer(torch.optim.SGD(twin_aux, lr=0.1), solver=ConjugateGradient(max_steps=5))
    expected = twin_meta.step(twin.loss_func(True), twin.loss_func(False), inner, twin_aux, return_grads=True)
    assert grads is not None
    assert expected is not None
    assert all(torch.equal(a, b) for a, b in zip(grads, expected, strict=True))
    assert float(grads[1].norm()) > 0  # the direct term: the outer loss depends on the shared bias


def test_a_combiner_with_a_bias_that_has_no_effect_gets_a_zero_gradient() -> None:
    world = World()
    world.auxiliary = nn.Linear(K, 1).to(DEVICE, DTYPE)
    meta = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1))
    grads = world.outer_step(meta, return_grads=True)
    assert grads is not None
    assert float(grads[1].abs().sum()) == 0.0
    assert float(grads[0].abs().sum()) > 0.0


def test_schedulers_and_parameter_groups_work_on_the_wrapped_optimizer() -> None:
    world = World()
    extra = nn.Parameter(torch.zeros(1, dtype=DTYPE, device=DEVICE))
    meta = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1))
    meta.add_param_group({"params": [extra], "lr": 0.2})
    assert [g["lr"] for g in meta.param_groups] == [0.1, 0.2]
    scheduler = torch.optim.lr_scheduler.StepLR(meta.meta_optimizer, step_size=1, gamma=0.5)
    world.outer_step(meta)
    scheduler.step()
    assert [g["lr"] for g in meta.param_groups] == [0.05, 0.1]


@pytest.mark.parametrize("solver", [None, WarmStart(ConjugateGradient(max_steps=3)), WarmStart(Neumann())])
def test_a_restored_state_continues_bit_by_bit(solver: object) -> None:
    def fresh() -> tuple[World, MetaOptimizer]:
        world = World()
        own = copy.deepcopy(solver)
        return world, MetaOptimizer(torch.optim.Adam(world.auxiliary.parameters(), lr=0.1), solver=own)

    def advance(world: World, meta: MetaOptimizer, steps: int) -> None:
        for _ in range(steps):
            world.train_step()
            world.outer_step(meta)

    world, meta = fresh()
    advance(world, meta, 3)
    saved = copy.deepcopy((world.primary.state_dict(), world.auxiliary.state_dict(), meta.state_dict()))
    advance(world, meta, 3)

    resumed, resumed_meta = fresh()
    resumed.primary.load_state_dict(saved[0])
    resumed.auxiliary.load_state_dict(saved[1])
    resumed_meta.load_state_dict(saved[2])
    advance(resumed, resumed_meta, 3)
    assert torch.equal(world.auxiliary.weight, resumed.auxiliary.weight)


def test_the_state_of_a_bare_optimizer_can_be_loaded() -> None:
    world = World()
    bare = torch.optim.SGD(world.auxiliary.parameters(), lr=0.3)
    meta = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1))
    meta.load_state_dict(bare.state_dict())
    assert meta.param_groups[0]["lr"] == 0.3


def test_zero_grad_clears_the_auxiliary_gradients() -> None:
    world = World()
    meta = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1))
    world.outer_step(meta)
    meta.zero_grad(set_to_none=False)
    assert float(world.auxiliary.weight.grad.abs().sum()) == 0.0
    meta.zero_grad()
    assert world.auxiliary.weight.grad is None


@pytest.mark.parametrize("enabled", [True, False])
def test_a_grad_scaler_changes_nothing_but_the_scale_of_the_passes(enabled: bool) -> None:
    plain, scaled = World(), World()
    results = []
    for world, scaler in ((plain, None), (scaled, torch.amp.GradScaler(DEVICE.type, enabled=enabled))):
        meta = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1), max_grad_norm=0.05)
        grads = world.outer_step(meta, return_grads=True, grad_scaler=scaler)
        assert grads is not None
        results.append((grads[0], world.auxiliary.weight.detach()))
        if scaler is not None:
            scaler.update()
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("scale", [None, 2.0**10])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_outer_step_works_on_an_autocast_forward(dtype: torch.dtype, scale: float | None) -> None:
    world = World(dtype=torch.float32)
    meta = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1))
    with torch.autocast(DEVICE.type, dtype=dtype):
        train, val = world.loss_func(True), world.loss_func(False)
    scaler = None if scale is None else torch.amp.GradScaler(DEVICE.type, init_scale=scale)
    primary, auxiliary = world.primary.parameters(), world.auxiliary.parameters()
    grads = meta.step(train, val, primary, auxiliary, return_grads=True, grad_scaler=scaler)
    exact = World(dtype=torch.float32)
    expected = exact.outer_step(MetaOptimizer(torch.optim.SGD(exact.auxiliary.parameters(), lr=0.1)), return_grads=True)
    assert grads is not None
    assert expected is not None
    assert float((grads[0] - expected[0]).norm() / expected[0].norm()) < 0.1


def test_several_streamed_batches_equal_one_large_batch() -> None:
    world, streamed = World(), World()
    whole = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1), solver=ConjugateGradient())
    expected = world.outer_step(whole, return_grads=True)
    meta = MetaOptimizer(torch.optim.SGD(streamed.auxiliary.parameters(), lr=0.1), solver=ConjugateGradient())

    def build(rows: slice) -> Hessian:
        return Hessian(streamed.auxiliary(streamed.losses(rows)).mean(), streamed.primary.parameters())

    grads = meta.step(
        Streamed(build, [slice(0, 16), slice(16, 32), slice(32, 48)]),
        (streamed.losses(rows)[:, 0].mean() for rows in (slice(48, 56), slice(56, 64))),
        streamed.primary.parameters(),
        streamed.auxiliary.parameters(),
        return_grads=True,
    )
    assert grads is not None
    assert expected is not None
    torch.testing.assert_close(grads[0], expected[0])


def test_training_is_the_same_with_and_without_outer_passes() -> None:
    def run(outer: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        world = World()
        body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, K))
        world.primary = body.to(DEVICE, DTYPE)
        world.primary_optimizer = torch.optim.SGD(world.primary.parameters(), lr=0.1)
        # A step of size zero: only side effects of the passes could change the training.
        meta = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.0), solver=Identity())
        for _ in range(5):
            world.train_step()
            if outer:
                with second_order(world.primary):
                    train, val = world.loss_func(True), world.loss_func(False)
                meta.step(train, val, world.primary.parameters(), world.auxiliary.parameters())
        return list(world.primary.state_dict().values())

    assert all(torch.equal(a, b) for a, b in zip(run(outer=True), run(outer=False), strict=True))


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("on_failure", ["warn", "skip"])
@pytest.mark.filterwarnings("ignore::auxilearn.errors.SolverWarning")
def test_nan_never_reaches_the_auxiliary_parameters_through_a_scaler(enabled: bool, on_failure: str) -> None:
    world = World()
    before = world.auxiliary.weight.detach().clone()
    meta = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1), on_failure=on_failure)
    outer = (world.losses(slice(48, 64))[:, 0] * 0).sqrt().sum()  # 0, with the slope 0 · ∞
    meta.step(
        world.loss_func(True),
        outer,
        world.primary.parameters(),
        world.auxiliary.parameters(),
        grad_scaler=torch.amp.GradScaler(DEVICE.type, enabled=enabled),
    )
    assert torch.equal(world.auxiliary.weight, before)


def test_a_scaler_is_refused_beside_lbfgs() -> None:
    world, scaler = World(), torch.amp.GradScaler(DEVICE.type)
    lbfgs = MetaOptimizer(torch.optim.LBFGS(world.auxiliary.parameters(), max_iter=1))
    with pytest.raises(InputError, match="cannot drive `LBFGS`"):
        world.outer_step(lbfgs, grad_scaler=scaler)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_kept_gradient_takes_the_step_of_a_pass_of_its_own_bit_for_bit(scaled: bool) -> None:
    def run(keep: bool) -> list[torch.Tensor]:
        world = World()
        optimizer = torch.optim.SGD(world.primary.parameters(), lr=0.05, momentum=0.9)
        meta = MetaOptimizer(torch.optim.Adam(world.auxiliary.parameters(), lr=0.1))
        scaler = torch.amp.GradScaler(DEVICE.type, enabled=scaled, init_scale=2.0**8)
        for _ in range(5):
            if not keep:  # the gradient before the auxiliary parameters move
                optimizer.zero_grad()
                scaler.scale(world.loss_func(True)).backward()
            world.outer_step(meta, keep_gradient=keep, **({"grad_scaler": scaler} if scaled else {}))
            scaler.step(optimizer)
            scaler.update()
        return [p.detach() for p in [*world.primary.parameters(), *world.auxiliary.parameters()]]

    assert all(torch.equal(a, b) for a, b in zip(run(keep=True), run(keep=False), strict=True))


def test_the_kept_gradient_costs_no_pass_of_its_own() -> None:
    world = World()
    meta = MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1), hpo_lr=0.01)
    counts = []
    for keep in (False, True):
        with FlopCounterMode(display=False) as flops:
            world.outer_step(meta, keep_gradient=keep)
        counts.append(flops.get_total_flops())
    assert counts[0] == counts[1]


def test_the_kept_gradient_replaces_what_was_there_and_shares_no_memory_with_the_weights() -> None:
    a, b, c, unused, shared, phi = (nn.Parameter(torch.full((2,), i, dtype=DTYPE, device=DEVICE)) for i in range(2, 8))
    for p in (a, b, c, unused):
        p.grad = torch.ones_like(p)
    meta = MetaOptimizer(torch.optim.SGD([phi, shared], lr=0.0), solver=Identity())
    loss = (a * b).sum() + (phi * shared * c).sum()
    meta.step(loss, c.square().sum(), [a, b, c, unused, shared], [phi, shared], keep_gradient=True)
    assert unused.grad is None
    assert torch.equal(a.grad, b)
    assert torch.equal(b.grad, a)
    assert torch.equal(c.grad, phi * shared)
    assert shared.grad is not None  # its hypergradient
    a.grad.zero_()
    assert bool((b == 3.0).all())


def test_without_asking_for_it_no_gradient_of_the_weights_is_touched() -> None:
    world = World()
    marks = [torch.ones_like(p) for p in world.primary.parameters()]
    for p, mark in zip(world.primary.parameters(), marks, strict=True):
        p.grad = mark
    world.outer_step(MetaOptimizer(torch.optim.SGD(world.auxiliary.parameters(), lr=0.1)))
    assert all(p.grad is mark for p, mark in zip(world.primary.parameters(), marks, strict=True))
