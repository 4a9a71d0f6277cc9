"""The rows of the combiner: one hypergradient for all models, mixed without a model's own."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auxilearn import hypergradient
from auxilearn.combiners import MLP, Bent, Conv, DeepLinear, Linear, LossCombiner, Standardized
from auxilearn.errors import InputError
from auxilearn.solvers import ConjugateGradient, Identity, Neumann, Status, WarmStart
from auxilearn.training import Learned
from auxilearn.training._upper import Upper
from support import DEVICE, close, normal

M, B, K = 3, 7, 2
COMBINERS: dict[str, Any] = {
    "linear": Linear,
    "signed": lambda k: Linear(k, monotone=False),
    "deep linear": DeepLinear,
    "mlp": lambda k: MLP(k, hidden=(3,)),
    "bent": Bent,
    "bent each": lambda k: Bent(k, shared=False, bend="concave"),
}


class Scalar(LossCombiner):
    """One number for all losses, in a tensor without an axis."""

    def __init__(self, num_losses: int) -> None:
        super().__init__(num_losses)
        self.theta = nn.Parameter(torch.zeros(()))

    def _combine(self, losses: Tensor, /) -> Tensor:
        return self.theta.exp() * losses.sum()


class Looking(Scalar):
    """What `vmap` refuses."""

    def _combine(self, losses: Tensor, /) -> Tensor:
        return super()._combine(losses) if float(losses.detach().sum()) > -1e9 else losses.sum()


class World:
    """Three small models, their losses, and the upper level with parameters that differ between its rows."""

    def __init__(self, combiner: Any = Linear, *, shared: bool = True, **settings: Any) -> None:
        torch.manual_seed(0)
        self.upper = Upper(Learned(combiner=combiner, **settings), K, M, DEVICE, shared=shared)
        for i, p in enumerate(self.upper.phi):
            p.data += 0.3 * normal(*p.shape, seed=i, dtype=torch.float32)
        self.weights = tuple(nn.Parameter(normal(4, 3, seed=10 + m)) for m in range(M))
        self.last = normal(3, K + 1, seed=30)
        self.x, self.y = normal(B, 4, seed=20), normal(B, K + 1, seed=21)
        self.held_x, self.held_y = normal(M, 5, 4, seed=22), normal(M, 5, seed=23)

    def losses(self, m: int) -> Tensor:
        return (self.x @ self.weights[m] @ self.last - self.y).square() / 10

    def main(self, m: int) -> Tensor:
        """Return the main loss with a ridge, so that the train loss is convex."""
        return self.losses(m)[:, 0].mean() + self.weights[m].square().sum()

    def outer(self, m: int) -> Tensor:
        return (self.held_x[m] @ self.weights[m] @ self.last[:, 0] - self.held_y[m]).square().mean()

    def inputs(self) -> Tensor:
        values = torch.stack([self.losses(m)[:, 1:] for m in range(M)])
        return values if self.upper.reads_samples else values.mean(1)

    def train(self, factors: Tensor) -> Tensor:
        inputs = self.inputs()
        inputs = inputs * (factors[:, None] if inputs.dim() == 3 else factors)
        return sum(self.main(m) for m in range(M)) + self.upper.combine(inputs).sum()

    def step(self, outer: Tensor | None = None) -> Any:
        factors = torch.ones(M, K, requires_grad=True)
        outer = sum(self.outer(m) for m in range(M)) if outer is None else outer
        return self.upper.step(self.train(factors), outer, self.weights, factors)

    def row(self, m: int) -> LossCombiner:
        torch.manual_seed(0)
        combiner = self.upper.combiner()
        with torch.no_grad():
            for p, stack in zip(combiner.parameters(), self.upper.phi, strict=True):
                p.copy_(stack[m])
        return combiner.requires_grad_()


@pytest.mark.parametrize("name", COMBINERS)
def test_each_model_is_combined_by_its_row(name: str) -> None:
    world = World(COMBINERS[name])
    inputs = world.inputs()
    found = world.upper.combine(inputs)
    for m in range(M):
        assert torch.allclose(found[m], world.row(m)(inputs[m]), rtol=1e-6)
    assert torch.allclose(world.upper.weights(inputs[0]), world.row(M).weights_at(inputs[0]), rtol=1e-6)
    assert world.upper.reads_samples == (name not in {"linear", "signed", "deep linear"})


class Kept(torch.optim.Optimizer):
    """Keeps the gradients, and moves nothing."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})
        self.seen: list[Tensor] = []

    def step(self, closure: Any = None) -> None:
        self.seen = [p.grad.clone() for p in self.param_groups[0]["params"]]


def own_hypergradients(world: World, solver: Any) -> tuple[list[list[Tensor]], Tensor]:
    """Return those of every model by itself, of its row's parameters and of its factors."""
    found, slopes = [], []
    for m in range(M):
        combiner, factors = world.row(m), torch.ones(K, requires_grad=True)
        inputs = world.inputs()[m] * factors
        train = world.main(m) + combiner(inputs)
        result = hypergradient(
            train,
            world.outer(m),
            params=[world.weights[m]],
            aux_params=[*combiner.parameters(), factors],
            solver=solver,
        )
        found.append(list(result.grads[:-1]))
        slopes.append(-result.grads[-1])
    return found, torch.stack(slopes)


def mixed(own: list[list[Tensor]], row: int) -> list[Tensor]:
    """Write the leave-one-out mixing out: the last row is over all."""
    others = [m for m in range(M) if m != row]
    norms = {m: float(sum(g.square().sum() for g in own[m])) ** 0.5 for m in others}
    median = sorted(norms.values())[(len(others) - 1) // 2]
    return [torch.stack([own[m][i] * (median / norms[m]) for m in others]).mean(0) for i in range(len(own[0]))]


@pytest.mark.parametrize("solver", [Identity(), ConjugateGradient(max_steps=200, tolerance=1e-13)])
@pytest.mark.parametrize("name", COMBINERS)
def test_rows_follow_the_hypergradients_of_the_other_models(name: str, solver: Any) -> None:
    if name == "bent each" and not isinstance(solver, Identity):
        pytest.skip("concave bends have negative curvature, before which the solver stops")
    world = World(COMBINERS[name], optimizer=Kept, solver=solver)
    own, slopes = own_hypergradients(world, solver)
    report, scores = world.step()
    assert not report.failed
    assert torch.allclose(scores, slopes, rtol=1e-4, atol=1e-6)
    for row in range(M + 1):
        for found, expected in zip(world.upper.optimizer.seen, mixed(own, row), strict=True):
            assert close(found[row], expected, 1e-4)


def test_rows_that_are_not_shared_follow_their_own_model() -> None:
    world = World(shared=False, optimizer=Kept)
    own, slopes = own_hypergradients(world, Identity())
    _, scores = world.step()
    assert torch.allclose(scores, slopes, rtol=1e-4, atol=1e-6)
    (seen,) = world.upper.optimizer.seen
    assert seen.shape == (M, K)
    for m in range(M):
        assert close(seen[m], own[m][0], 1e-4)


def dense(world: World, m: int, solver: Any) -> Tensor:
    """Return −(∂_φ ∂_W L_T)ᵀ H⁻¹ ∂_W L_A of a model by dense matrices, with H = I or the true one."""
    theta0, w0 = world.upper.phi[0][m].detach().double(), world.weights[m].detach().flatten()
    initial = Linear(K).weight

    def train(flat: Tensor, theta: Tensor) -> Tensor:
        losses = (world.x @ flat.view(4, 3) @ world.last - world.y).square().mean(0) / 10
        weights = torch.func.functional_call(initial, {"theta": theta}, ())
        return losses[0] + flat.square().sum() + (weights * losses[1:]).sum()

    def slope(theta: Tensor) -> Tensor:
        return torch.autograd.functional.jacobian(lambda flat: train(flat, theta), w0, create_graph=True)

    J = torch.autograd.functional.jacobian(slope, theta0)  # (n, K)
    (v,) = torch.autograd.grad(world.outer(m), world.weights[m])
    if isinstance(solver, Identity):
        return -(J.T @ v.flatten())
    H = torch.autograd.functional.hessian(lambda flat: train(flat, theta0), w0)
    return -(J.T @ torch.linalg.solve(H, v.flatten()))


@pytest.mark.parametrize("solver", [Identity(), ConjugateGradient(max_steps=100, tolerance=1e-12)])
def test_the_hypergradient_is_that_of_the_written_out_derivative(solver: Any) -> None:
    world = World(optimizer=Kept, solver=solver)
    truth = [[dense(world, m, solver)] for m in range(M)]
    world.step()
    for row in range(M + 1):
        assert close(world.upper.optimizer.seen[0][row].double(), mixed(truth, row)[0], 1e-4)


def test_a_models_own_outer_loss_never_reaches_its_row() -> None:
    for fold in range(M):
        found = []
        for shift in (0.0, 5.0):
            world = World(COMBINERS["mlp"])
            world.held_y[fold] += shift
            world.step()
            found.append([p.detach().clone() for p in world.upper.phi])
        for one, other in zip(*found, strict=True):
            assert torch.equal(one[fold], other[fold])
            for row in range(M + 1):
                if row != fold:
                    assert not torch.equal(one[row], other[row])


def test_a_model_without_held_back_labels_has_no_say() -> None:
    world = World(optimizer=Kept)
    own, _ = own_hypergradients(world, Identity())
    factors = torch.ones(M, K, requires_grad=True)
    # A hypergradient is large, and another is zero: nothing may become NaN.
    outer = 1e6 * world.outer(0) + world.outer(1) + 0 * world.outer(2)
    _, scores = world.upper.step(world.train(factors), outer, world.weights, factors)
    (seen,) = world.upper.optimizer.seen
    assert seen.isfinite().all()
    assert scores[2].tolist() == [0.0, 0.0]
    assert close(seen[0], own[1][0] / 2, 1e-4)  # the mean over two models, one of which has none
    world.upper.step(world.train(factors), 0 * outer, world.weights, factors)
    assert not world.upper.optimizer.seen[0].any()


def test_one_model_has_one_row_and_no_mixing() -> None:
    upper = Upper(Learned(combiner=Linear, optimizer=Kept), K, 1, DEVICE)
    world = World()
    factors = torch.ones(1, K, requires_grad=True)
    means = world.losses(0).mean(0)
    train = means[0] + upper.combine(means[None, 1:] * factors).sum()
    upper.step(train, world.outer(0), world.weights[:1], factors)
    theta = torch.zeros(K, requires_grad=True)
    means = world.losses(0).mean(0)
    result = hypergradient(
        means[0] + (torch.func.functional_call(Linear(K).weight, {"theta": theta}, ()) * means[1:]).sum(),
        world.outer(0),
        params=world.weights[:1],
        aux_params=[theta],
        solver=Identity(),
    )
    assert close(upper.optimizer.seen[0][0], result.grads[0], 1e-5)
    assert upper.phi[0].shape == (1, K)


def test_a_step_whose_solve_fails_moves_nothing_and_is_told() -> None:
    world = World(solver=Neumann(alpha=1e6))
    before = [p.detach().clone() for p in world.upper.phi]
    report, scores = world.step()
    assert report.status is Status.DIVERGED
    assert not scores.any()
    assert all(torch.equal(p, b) for p, b in zip(world.upper.phi, before, strict=True))
    assert world.upper.trouble() is not None
    assert "1 of 1 outer steps were skipped" in str(world.upper.trouble())
    fine = World()
    fine.step()
    assert fine.upper.trouble() is None


def test_the_average_is_over_the_last_row() -> None:
    world = World()
    rows = []
    for _ in range(3):
        world.step()
        world.upper.average()
        rows.append(world.upper.phi[0][-1].detach().clone())
    found = world.upper.combiner()
    assert torch.allclose(found.weight.theta, torch.stack(rows).mean(0))
    assert not any(p.requires_grad for p in found.parameters())
    assert not World().upper.averaged


@pytest.mark.parametrize("combiner", [Scalar, Looking])
def test_combiners_of_ones_own(combiner: Any) -> None:
    world = World(combiner)
    before = world.upper.phi[0].detach().clone()
    assert torch.allclose(world.upper.combine(world.inputs())[1], world.row(1)(world.inputs()[1]), rtol=1e-6)
    world.step()
    assert not torch.equal(world.upper.phi[0], before)


def test_it_goes_on_where_it_stood() -> None:
    solver = WarmStart(Neumann())
    one, other = (World(COMBINERS["mlp"], solver=solver) for _ in range(2))
    for _ in range(2):
        one.step()
        one.upper.average()
    torch.manual_seed(5)
    other.upper = Upper(Learned(combiner=COMBINERS["mlp"], solver=solver), K, M, DEVICE, shared=True)
    other.upper.load_state_dict(torch.load(_saved(one.upper.state_dict()), weights_only=True))
    for world in (one, other):
        world.step()
        world.upper.average()
    for p, q in zip(one.upper.phi, other.upper.phi, strict=True):
        assert torch.equal(p, q)
    for p, q in zip(one.upper.combiner().parameters(), other.upper.combiner().parameters(), strict=True):
        assert torch.equal(p, q)


def _saved(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


class Empty(LossCombiner):
    def _combine(self, losses: Tensor, /) -> Tensor:
        return losses.sum()


@pytest.mark.parametrize(
    ("settings", "finding"),
    [
        ({"combiner": lambda k: nn.Linear(k, 1)}, "It built a `Linear`"),
        ({"combiner": lambda k: Standardized(Linear(k))}, "It built a `Standardized`"),
        ({"combiner": lambda k: Linear(k + 1)}, "It is for 3 losses, and there are 2"),
        ({"combiner": Conv}, "`Conv` reads images of losses only"),
        ({"combiner": Empty}, "`Empty` has none"),
        ({"optimizer": lambda phi: torch.optim.LBFGS(phi)}, "It built a `LBFGS`"),
        ({"optimizer": lambda phi: None}, "It built a `NoneType`"),
    ],
)
def test_what_cannot_be_learned_is_refused(settings: Any, finding: str) -> None:
    with pytest.raises(InputError, match=finding):
        Upper(Learned(**settings), K, M, DEVICE)


def test_one_outer_step_calls_autograd_as_often_for_any_number_of_models_and_losses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, calls, engine = World(solver=Neumann(terms=2, alpha=0.01)), [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or engine(*a, **k))
    world.step()
    assert len(calls) == 3 + 2
