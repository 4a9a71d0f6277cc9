"""The metric of an optimizer against that optimizer itself: its steps, and what it converges to."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop

from auxilearn import Vector, hypergradient
from auxilearn.curvature import Hessian
from auxilearn.errors import InputError
from auxilearn.solvers import ConjugateGradient, Identity, Neumann, OptimizerMetric
from support import DEVICE, close, normal

Make = Callable[..., Optimizer]


def two_groups(make: Make, **settings: object) -> tuple[list[nn.Parameter], Optimizer]:
    """Return three parameters in two groups, the second of which learns five times as fast."""
    shapes = [(3, 2), (4,), ()]
    params = [nn.Parameter(normal(*s, dtype=torch.float64, seed=i)) for i, s in enumerate(shapes)]
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.05}]
    return params, make(groups, **{"lr": 0.01, **settings})


def step_with(optimizer: Optimizer, params: list[nn.Parameter], grads: list[Tensor]) -> list[Tensor]:
    """Take a step and return how far each parameter went, downhill."""
    before = [p.detach().clone() for p in params]
    for p, g in zip(params, grads, strict=True):
        p.grad = g.clone()
    optimizer.step()
    return [b - p.detach() for b, p in zip(before, params, strict=True)]


def random_gradients(params: list[nn.Parameter], seed: int) -> list[Tensor]:
    return [normal(*p.shape, dtype=torch.float64, seed=100 * seed + i) for i, p in enumerate(params)]


# Without momentum the last step is P (g + D W) for the state that it left behind.
@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (SGD, {}),
        (SGD, {"weight_decay": 0.1}),
        (SGD, {"lr": torch.tensor(0.01)}),
        (Adam, {"betas": (0.0, 0.99)}),
        (Adam, {"betas": (0.0, 0.99), "weight_decay": 0.1, "eps": 0.1}),
        (Adam, {"betas": (0.0, 0.9), "amsgrad": True}),
        (AdamW, {"betas": (0.0, 0.99)}),
        (AdamW, {"betas": (0.0, 0.99), "weight_decay": 0.3, "eps": 0.1}),
        (AdamW, {"betas": (0.0, 0.9), "amsgrad": True, "weight_decay": 0.3}),
        (RMSprop, {}),
        (RMSprop, {"weight_decay": 0.1, "eps": 0.1}),
        (RMSprop, {"centered": True, "alpha": 0.9}),
        (Adagrad, {}),
        (Adagrad, {"lr_decay": 0.1, "weight_decay": 0.1}),
        (Adagrad, {"initial_accumulator_value": 0.5, "eps": 0.1}),
    ],
)
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_a_step_is_that_of_the_metric(make: Make, settings: dict[str, object], steps: int) -> None:
    params, optimizer = two_groups(make, **settings)
    for k in range(steps):
        weights, grads = [p.detach().clone() for p in params], random_gradients(params, k)
        moved = step_with(optimizer, params, grads)
    P, D = OptimizerMetric(optimizer).read(params)
    for found, p, d, g, w in zip(moved, P, D, grads, weights, strict=True):
        torch.testing.assert_close(p * (g + d * w), found, rtol=1e-9, atol=1e-12)


# With momentum it is so in the long run, for a gradient that stays.
@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (SGD, {"momentum": 0.9}),
        (SGD, {"momentum": 0.9, "dampening": 0.3}),
        (SGD, {"momentum": 0.9, "nesterov": True}),
        (Adam, {}),
        (Adam, {"amsgrad": True, "eps": 0.1}),
        (AdamW, {"weight_decay": 0.0}),
        (RMSprop, {"momentum": 0.8}),
        (RMSprop, {"momentum": 0.8, "eps": 0.1, "alpha": 0.9}),
    ],
)
def test_the_long_run_step_is_that_of_the_metric(make: Make, settings: dict[str, object]) -> None:
    params, optimizer = two_groups(make, **settings)
    grads = random_gradients(params, 0)
    for _ in range(3000 if make is RMSprop else 400):
        moved = step_with(optimizer, params, grads)
    P, D = OptimizerMetric(optimizer).read(params)
    for found, p, g in zip(moved, P, grads, strict=True):
        torch.testing.assert_close(p * g, found, rtol=1e-6, atol=0.0)
    assert float(D.norm()) == 0.0


def test_groups_keep_their_own_learning_rates() -> None:
    params, optimizer = two_groups(SGD)
    P, _ = OptimizerMetric(optimizer).read([params[2], params[0]])  # any order, any part
    assert [float(t.reshape(-1)[0]) for t in P] == [0.05, 0.01]


def test_the_optimizer_is_read_anew_and_never_changed() -> None:
    params, optimizer = two_groups(Adam)
    step_with(optimizer, params, random_gradients(params, 0))
    metric = OptimizerMetric(optimizer)
    state = optimizer.state_dict()
    saved = [{k: torch.as_tensor(v).clone() for k, v in s.items()} for s in state["state"].values()]
    first = metric.read(params)[0].flat()
    now = optimizer.state_dict()["state"].values()
    assert all(torch.equal(torch.as_tensor(s[k]), old[k]) for s, old in zip(now, saved, strict=True) for k in old)
    optimizer.param_groups[0]["lr"] *= 2
    assert torch.equal(metric.read(params)[0].tensors[0].flatten(), 2 * first[:6])


class Quadratic:
    """L_T = ½ Wᵀ A W − (B φ)ᵀ W and L_A = ½ ‖W − c‖², whose minimisers move with φ."""

    def __init__(self) -> None:
        root = normal(4, 4, dtype=torch.float64)
        self.A = root @ root.T / 4 + torch.eye(4).to(root)
        self.B = normal(4, 2, dtype=torch.float64, seed=1)
        self.phi = normal(2, dtype=torch.float64, seed=2)
        self.target = normal(4, dtype=torch.float64, seed=3)

    def train_loss(self, w: Tensor, phi: Tensor) -> Tensor:
        return w @ self.A @ w / 2 - (self.B @ phi) @ w

    def val_loss(self, w: Tensor) -> Tensor:
        return (w - self.target).square().sum() / 2

    def trained(self, phi: Tensor, make: Make, noise: float, steps: int) -> tuple[nn.Parameter, Optimizer]:
        w = nn.Parameter(torch.zeros(4, dtype=torch.float64, device=DEVICE))
        optimizer = make([w])
        sign = 1.0
        for _ in range(steps):
            # The gradient by hand; noise of alternating sign averages out and fills the second moments.
            w.grad = self.A @ w.detach() - self.B @ phi + sign * noise
            optimizer.step()
            sign = -sign
        return w, optimizer

    def retrained_slope(self, make: Make, noise: float, steps: int, size: float = 1e-3) -> Tensor:
        """Return dL_A/dφ by central differences of the weights that the real optimizer ends with."""

        def outcome(phi: Tensor) -> Tensor:
            return self.val_loss(self.trained(phi, make, noise, steps)[0].detach())

        directions = size * torch.eye(2, dtype=torch.float64, device=DEVICE)
        return torch.stack([(outcome(self.phi + e) - outcome(self.phi - e)) / (2 * size) for e in directions])


def implicit_slope(problem: Quadratic, w: nn.Parameter, preconditioner: OptimizerMetric | None) -> Tensor:
    phi = problem.phi.clone().requires_grad_()
    solver = ConjugateGradient(100, tolerance=1e-12, preconditioner=preconditioner)
    losses = problem.train_loss(w, phi), problem.val_loss(w)
    return hypergradient(*losses, params=[w], aux_params=[phi], solver=solver).grads[0]


# D takes the second moments as given. Those of AdamW are so under noise; filled by its own gradient alone, they would
# follow the weights.
@pytest.mark.parametrize(
    ("make", "noise", "steps", "tolerance"),
    [
        (lambda p: SGD(p, lr=0.1, momentum=0.5, weight_decay=0.3), 0.0, 300, 1e-8),
        (lambda p: SGD(p, lr=0.1, momentum=0.5, dampening=0.5, weight_decay=0.3), 0.0, 300, 1e-8),
        (lambda p: Adam(p, lr=0.05, eps=0.3, weight_decay=0.3), 0.0, 1000, 1e-6),
        (lambda p: RMSprop(p, lr=0.05, eps=0.3, weight_decay=0.3), 0.0, 1000, 1e-6),
        (lambda p: Adagrad(p, lr=0.5, eps=0.3, weight_decay=0.3), 0.0, 1000, 1e-6),
        (lambda p: AdamW(p, lr=0.02, weight_decay=0.1), 3.0, 2000, 5e-3),
        (lambda p: AdamW(p, lr=0.02, weight_decay=0.05, eps=2.0), 3.0, 3000, 5e-3),
    ],
)
def test_the_implicit_system_is_the_fixed_point_of_the_optimizer(
    make: Make, noise: float, steps: int, tolerance: float
) -> None:
    problem = Quadratic()
    exact = problem.retrained_slope(make, noise, steps)
    w, optimizer = problem.trained(problem.phi, make, noise, steps)
    assert close(implicit_slope(problem, w, OptimizerMetric(optimizer)), exact, tolerance)
    # The decay matters: without it the answer is another one.
    assert not close(implicit_slope(problem, w, None), exact, 10 * tolerance)


def test_one_term_is_one_step_of_the_optimizer() -> None:
    problem, terms = Quadratic(), 5
    w, optimizer = problem.trained(problem.phi, lambda p: SGD(p, lr=0.1, weight_decay=0.3), 0.0, 3)
    v = Vector([normal(4, dtype=torch.float64, seed=9)])
    solver = Neumann(terms=terms, alpha=1.0, preconditioner=OptimizerMetric(optimizer))
    found = solver.solve(Hessian(problem.train_loss(w, problem.phi), [w]), v).x.flat()
    step = torch.eye(4).to(problem.A) - 0.1 * (problem.A + 0.3 * torch.eye(4).to(problem.A))
    exact = sum((torch.linalg.matrix_power(step, j) @ (0.1 * v.flat()) for j in range(terms + 1)), 0 * v.flat())
    assert close(found, exact, 1e-12)


def test_other_optimizers_are_refused_even_if_they_are_subclasses() -> None:
    class Odd(SGD):
        pass

    params, _ = two_groups(SGD)
    for optimizer in (Odd(params, lr=0.1), NAdam(params)):
        with pytest.raises(InputError, match=f"It got `{type(optimizer).__name__}`"):
            OptimizerMetric(optimizer)


@pytest.mark.parametrize("make", [SGD, Adam, AdamW, RMSprop, Adagrad])
def test_maximisation_is_refused(make: Make) -> None:
    _, optimizer = two_groups(make, maximize=True)
    with pytest.raises(InputError, match="must be a minimisation"):
        OptimizerMetric(optimizer)


@pytest.mark.parametrize("make", [Adam, AdamW, RMSprop, Adagrad])
def test_an_optimizer_that_has_not_stepped_is_refused(make: Make) -> None:
    params, optimizer = two_groups(make)
    with pytest.raises(InputError, match=r"has no state yet\. Take a training step"):
        OptimizerMetric(optimizer).read(params)


def test_plain_gradient_descent_needs_no_step() -> None:
    params, optimizer = two_groups(SGD, momentum=0.5)
    assert float(OptimizerMetric(optimizer).read(params)[0].tensors[0][0, 0]) == pytest.approx(0.02)


def test_parameters_of_another_optimizer_are_refused() -> None:
    _, optimizer = two_groups(SGD)
    with pytest.raises(InputError, match=r"A parameter of shape \(7,\) is in none of its groups"):
        OptimizerMetric(optimizer).read([nn.Parameter(torch.ones(7))])


def test_a_learning_rate_of_zero_is_refused_at_the_solve() -> None:
    params, optimizer = two_groups(SGD, lr=0.0)
    H = Hessian(sum((p.square().sum() for p in params), torch.zeros(()).to(params[0])), params)
    v = Vector(p.detach() for p in params)
    with pytest.raises(InputError, match="freeze parameters whose learning rate is zero"):
        Identity(preconditioner=OptimizerMetric(optimizer)).solve(H, v)
