"""First derivatives only: against the exact hypergradient, with the rates of the difference quotients."""

import copy
import io
from itertools import pairwise

import pytest
import torch
from problems import tanh_mlp
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import SGD, Adam

from auxilearn import BilevelProblem, PenaltyMethod, hypergradient, penalized
from auxilearn.errors import InputError, SolverError
from auxilearn.solvers import Dense
from support import normal

F64 = torch.float64
Tensors = tuple[Tensor, ...]


def ridge() -> BilevelProblem:
    x, y = normal(40, 4, dtype=F64), normal(40, dtype=F64, seed=1)

    def train(W: Tensors, phi: Tensors) -> Tensor:
        return (x[:25] @ W[0] - y[:25]).square().mean() + (phi[0].exp() * W[0].square()).sum()

    def outer(W: Tensors, phi: Tensors) -> Tensor:
        return (x[25:] @ W[0] - y[25:]).square().mean() + 0.1 * phi[0].square().sum()

    return BilevelProblem(train, outer, (torch.zeros(4, dtype=F64),), (torch.linspace(-2, 0, 4).to(x),))


def logistic() -> BilevelProblem:
    x, y = normal(40, 4, dtype=F64), normal(40, dtype=F64, seed=1).sign()

    def train(W: Tensors, phi: Tensors) -> Tensor:
        return softplus(-y[:25] * (x[:25] @ W[0] + W[1])).mean() + (phi[0].exp() * W[0].square()).sum() + W[1] ** 2 / 9

    def outer(W: Tensors, phi: Tensors) -> Tensor:
        return softplus(-y[25:] * (x[25:] @ W[0] + W[1])).mean()

    start = (torch.zeros(4, dtype=F64), torch.zeros((), dtype=F64))
    return BilevelProblem(train, outer, start, (torch.linspace(-2, 0, 4).to(x),))


PROBLEMS = {"ridge": (ridge, 120, 0.2), "logistic": (logistic, 250, 0.5)}
every_problem = pytest.mark.parametrize("name", PROBLEMS)


def exact(problem: BilevelProblem, params: Tensors) -> Tensor:
    W = tuple(p.clone().requires_grad_() for p in params)
    phi = tuple(p.clone().requires_grad_() for p in problem.aux_params)
    train, outer = problem.train_loss(W, phi), problem.val_loss(W, phi)
    return hypergradient(train, outer, params=W, aux_params=phi, solver=Dense()).grads[0]


@every_problem
@pytest.mark.parametrize(("symmetric", "order"), [(False, 1), (True, 2)])
def test_the_error_falls_with_the_strength_at_its_rate(name: str, symmetric: bool, order: int) -> None:
    make, steps, lr = PROBLEMS[name]
    problem, errors = make(), []
    for strength in (100.0, 200.0, 400.0):
        found = penalized(problem, strength=strength, steps=steps, lr=lr, symmetric=symmetric)
        truth = exact(problem, found.params)
        errors.append(float((found.grads[0] - truth).norm() / truth.norm()))
    assert [a / b for a, b in pairwise(errors)] == pytest.approx([2.0**order] * 2, rel=0.05)
    assert errors[-1] < 0.02**order


def test_a_network_with_four_decays() -> None:
    problem = tanh_mlp()
    truth = exact(problem, problem.params)
    found = penalized(problem, strength=1e3, steps=600, lr=0.5, momentum=0.9, symmetric=True)
    torch.testing.assert_close(found.grads[0], truth, rtol=1e-3, atol=0)


@every_problem
def test_the_error_falls_with_the_steps(name: str) -> None:
    make, steps, lr = PROBLEMS[name]
    problem, errors = make(), []
    for k in (steps // 20, steps // 5, steps):
        found = penalized(problem, strength=1e3, steps=k, lr=lr)
        errors.append(float((found.grads[0] - exact(problem, found.params)).norm()))
    assert errors == sorted(errors, reverse=True)


def test_the_problem_and_the_random_state_are_not_changed() -> None:
    problem = logistic()
    before, state = [p.clone() for p in (*problem.params, *problem.aux_params)], torch.get_rng_state()
    found = penalized(problem, strength=10.0, steps=3, lr=0.1)
    assert all(map(torch.equal, before, (*problem.params, *problem.aux_params)))
    assert torch.equal(torch.get_rng_state(), state)
    assert found.val_loss == pytest.approx(float(problem.val_loss(found.params, problem.aux_params)))
    assert not any(p.requires_grad for p in (*found.grads, *found.params, *found.shifted))


def test_no_graph_is_differentiated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.autograd.grad

    def watched(*args: object, **kwargs: object) -> object:
        assert not kwargs.get("create_graph")
        assert not kwargs.get("retain_graph")
        return whole(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.autograd, "grad", watched)
    penalized(ridge(), strength=10.0, steps=3, lr=0.1, symmetric=True)


@torch.no_grad()
def test_it_works_where_gradients_are_switched_off() -> None:
    assert penalized(ridge(), strength=10.0, steps=3, lr=0.1).grads[0].isfinite().all()


def method(problem: BilevelProblem, *, strength: float = 100.0, steps: int = 1) -> PenaltyMethod:
    return PenaltyMethod(problem, lambda W: SGD(W, lr=0.2), strength=strength, steps=steps)


def live() -> tuple[BilevelProblem, nn.Parameter]:
    """Return the ridge problem with weights that a loop trains."""
    problem = ridge()
    w = nn.Parameter(problem.params[0].clone())
    return BilevelProblem(problem.train_loss, problem.val_loss, (w,), problem.aux_params), w


def train(problem: BilevelProblem, optimizer: SGD) -> None:
    optimizer.zero_grad()
    problem.train_loss(problem.params, problem.aux_params).backward()
    optimizer.step()


def test_beside_a_training_loop_it_reaches_the_same_hypergradient() -> None:
    problem, w = live()
    primary, penalty = SGD([w], lr=0.2), method(problem)
    for _ in range(200):
        train(problem, primary)
        (found,) = penalty.hypergradient()
    alone = penalized(problem, strength=100.0, steps=200, lr=0.2)
    torch.testing.assert_close(found, alone.grads[0], rtol=1e-8, atol=0)
    torch.testing.assert_close(w.detach(), alone.params[0])


def test_a_twin_may_be_trained_without_being_asked() -> None:
    problem, _ = live()
    one, other = method(problem, steps=5), method(problem)
    for _ in range(4):
        other.advance()
    assert torch.equal(one.hypergradient()[0], other.hypergradient()[0])


def test_the_strength_may_grow() -> None:
    problem, w = live()
    primary, penalty, errors = SGD([w], lr=0.2), method(problem, strength=10.0), []
    for strength in (10.0, 100.0, 1000.0):
        penalty.strength = strength
        for _ in range(120):
            train(problem, primary)
            (found,) = penalty.hypergradient()
        errors.append(float((found - exact(problem, (w.detach(),))).norm()))
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


def test_it_descends_the_outer_loss_of_a_script_with_modules_and_batches() -> None:
    torch.manual_seed(0)
    model, weights = nn.Linear(5, 1).double(), nn.Parameter(torch.zeros(2, dtype=F64))
    holder = nn.Module()
    holder.weights = weights
    x, truth = normal(400, 5, dtype=F64), normal(5, dtype=F64, seed=1)
    good, bad = x @ truth, x @ normal(5, dtype=F64, seed=2) * 2
    rows = torch.arange(32)

    def losses() -> Tensor:
        out = model(x[rows]).squeeze(1)
        return torch.stack([(out - good[rows]).square().mean(), (out - bad[rows]).square().mean()])

    problem = BilevelProblem.from_modules([model], [holder], lambda: losses() @ weights_of(holder), lambda: losses()[0])
    primary, outer = SGD(model.parameters(), lr=0.1), Adam([weights], lr=0.05)
    penalty = PenaltyMethod(problem, lambda W: SGD(W, lr=0.1), strength=5.0)
    for step in range(300):
        rows = torch.arange(32 * step, 32 * step + 32) % 400
        primary.zero_grad()
        (losses() @ weights_of(holder)).backward(inputs=list(model.parameters()))
        primary.step()
        (weights.grad,) = penalty.hypergradient()
        outer.step()
    first, second = weights_of(holder).tolist()
    assert first > 0.9 > 0.1 > second


def weights_of(holder: nn.Module) -> Tensor:
    return torch.softmax(holder.weights, 0)


def test_both_networks_see_the_same_dropout() -> None:
    torch.manual_seed(0)
    model, phi = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1)).double(), nn.Linear(1, 1).double()
    x = normal(30, 4, dtype=F64)
    problem = BilevelProblem.from_modules(
        [model], [phi], lambda: phi(model(x)).square().mean(), lambda: model(x).square().mean()
    )
    # A twin that has not moved differs by nothing, whatever the strength.
    penalty = PenaltyMethod(problem, lambda W: SGD(W, lr=1e-12), strength=1e4)
    assert float(penalty.hypergradient()[0].norm()) < 1e-6


def test_a_saved_state_resumes_bit_by_bit() -> None:
    problem, w = live()
    primary = SGD([w], lr=0.2)

    def momentum(W: list[Tensor]) -> SGD:
        return SGD(W, lr=0.1, momentum=0.9)

    penalty = PenaltyMethod(problem, momentum, strength=50.0)
    for _ in range(5):
        train(problem, primary)
        penalty.hypergradient()
    file = io.BytesIO()
    torch.save(penalty.state_dict(), file)
    file.seek(0)
    other = PenaltyMethod(problem, momentum, strength=1.0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(5):
        assert torch.equal(penalty.hypergradient()[0], other.hypergradient()[0])


def test_the_weights_of_the_loop_are_not_touched() -> None:
    problem, w = live()
    before = w.detach().clone()
    method(problem).hypergradient()
    assert torch.equal(w.detach(), before)
    assert w.grad is None


def test_after_an_error_the_twin_begins_anew() -> None:
    problem, w = live()
    broken = False

    def outer(W: Tensors, phi: Tensors) -> Tensor:
        return problem.val_loss(W, phi) * (torch.nan if broken else 1.0)

    penalty = method(BilevelProblem(problem.train_loss, outer, (w,), problem.aux_params))
    first = penalty.hypergradient()[0]
    penalty.hypergradient()
    broken = True
    with pytest.raises(InputError, match="`val_loss` must be finite"):
        penalty.hypergradient()
    broken = False
    assert torch.equal(penalty.hypergradient()[0], first)


def test_a_slope_that_is_not_finite_is_an_error() -> None:
    problem = BilevelProblem(
        lambda W, phi: (W[0] - phi[0].sqrt()) ** 2,
        lambda W, phi: W[0] ** 2,
        (torch.ones((), dtype=F64),),
        (torch.zeros((), dtype=F64),),
    )
    with pytest.raises(SolverError, match="must be finite"):
        penalized(problem, strength=10.0, steps=1, lr=0.1)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"strength": 0.0}, "`strength` must be finite and above 0"),
        ({"steps": 0}, "`steps` must be an integer of at least 1"),
        ({"lr": -1.0}, "`lr` must be finite and above 0"),
        ({"momentum": -1.0}, "`momentum` must be finite and at least 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        penalized(ridge(), **{"strength": 1.0, "steps": 1, "lr": 0.1, **settings})  # type: ignore[arg-type]


def test_losses_that_miss_their_parameters_are_refused() -> None:
    whole = ridge()
    without_phi = BilevelProblem(lambda W, phi: W[0].square().sum(), whole.val_loss, whole.params, whole.aux_params)
    without_w = BilevelProblem(whole.train_loss, lambda W, phi: phi[0].sum(), whole.params, whole.aux_params)
    with pytest.raises(InputError, match="`aux_params` must act on the train loss"):
        penalized(without_phi, strength=1.0, steps=1, lr=0.1)
    with pytest.raises(InputError, match="`val_loss`"):
        penalized(without_w, strength=1.0, steps=1, lr=0.1)


def test_bad_arguments_of_the_method_are_refused() -> None:
    problem, w = live()
    with pytest.raises(InputError, match="`optimizer` must be a function that makes one"):
        PenaltyMethod(problem, SGD([w], lr=0.1), strength=1.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`optimizer` must be a function that makes one"):
        PenaltyMethod(problem, lambda W: W, strength=1.0)  # type: ignore[arg-type, return-value]
    penalty = method(problem)
    other = copy.deepcopy(penalty.state_dict())
    other["twin"] = [torch.zeros(7)]
    with pytest.raises(InputError, match="A state must be that of the same weights"):
        penalty.load_state_dict(other)
    penalty.strength = 0.0
    with pytest.raises(InputError, match="`strength`"):
        penalty.hypergradient()
