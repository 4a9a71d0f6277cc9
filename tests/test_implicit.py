"""The hypergradient against exact answers, and its conventions."""

import pytest
import torch
from problems import Known, logistic, ridge, tanh_mlp
from torch import Tensor

from auxilearn import BilevelProblem, hypergradient, unrolled
from auxilearn.curvature import FiniteDifference, Hessian, Streamed
from auxilearn.errors import SolverError, SolverWarning
from auxilearn.solvers import ConjugateGradient, Dense, Identity, LinearSolver, Neumann, Nystrom, Status
from support import DEVICE, DTYPE

EXACT = {
    "dense": Dense(),
    "conjugate gradient": ConjugateGradient(max_steps=200, tolerance=1e-12),
    "nystrom": Nystrom(rank=100),
    "neumann": Neumann(terms=20_000, tolerance=1e-13),
}


def at_the_optimum(problem: BilevelProblem, solver: LinearSolver) -> Tensor:
    W = tuple(w.clone().requires_grad_() for w in problem.params)
    phi = tuple(p.clone().requires_grad_() for p in problem.aux_params)
    losses = problem.train_loss(W, phi), problem.val_loss(W, phi)
    return hypergradient(*losses, params=W, aux_params=phi, solver=solver).grads[0]


def relative_error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


# The condition number of the ridge problem, 4e3, asks for sixty thousand Neumann terms; the other has 150.
@pytest.mark.parametrize(
    ("make", "name"),
    [(make, name) for make in (ridge, logistic) for name in EXACT if (make, name) != (ridge, "neumann")],
)
def test_thirty_penalties_get_the_exact_hypergradient(make: object, name: str) -> None:
    known = make()  # type: ignore[operator]
    assert isinstance(known, Known)
    assert relative_error(at_the_optimum(known.problem, EXACT[name]), known.exact) < 1e-6


def test_a_tanh_network_gets_that_of_two_thousand_unrolled_steps() -> None:
    problem = tanh_mlp()
    exact = at_the_optimum(problem, ConjugateGradient(max_steps=200, tolerance=1e-12))
    rolled = unrolled(problem, steps=2000, lr=2.0).grads[0]
    assert relative_error(exact, rolled) < 1e-4


def test_more_terms_come_closer() -> None:
    known = logistic()
    errors = [relative_error(at_the_optimum(known.problem, Neumann(terms=j)), known.exact) for j in (0, 3, 20, 200)]
    assert errors == sorted(errors, reverse=True)


def quadratic() -> tuple[Tensor, Tensor]:
    w = torch.tensor([1.0, 2.0], dtype=DTYPE, device=DEVICE, requires_grad=True)
    phi = torch.tensor([0.5, 0.3], dtype=DTYPE, device=DEVICE, requires_grad=True)
    return w, phi


def test_the_direct_term_is_included() -> None:
    w, phi = quadratic()
    result = hypergradient(
        (w - phi).square().sum() / 2, (w * phi).sum(), params=[w], aux_params=[phi], solver=Identity()
    )
    # ∂_φ L_A = w, and W* = φ gives ∂_W L_A · dW*/dφ = φ.
    torch.testing.assert_close(result.grads[0], w + phi)


def test_a_parameter_with_only_a_direct_term_is_served() -> None:
    w, phi = quadratic()
    scale = torch.ones(1, dtype=DTYPE, device=DEVICE, requires_grad=True)
    train, outer = (w - phi).square().sum() / 2, (w.square() * scale).sum()
    result = hypergradient(train, outer, params=[w], aux_params=[phi, scale], solver=Identity())
    torch.testing.assert_close(result.grads[1], w.square().sum().reshape(1))


def test_unused_auxiliary_tensors_give_zeros() -> None:
    w, phi = quadratic()
    unused = torch.ones(3, dtype=DTYPE, device=DEVICE, requires_grad=True)
    train, outer = (w - phi).square().sum(), w.sum()
    result = hypergradient(train, outer, params=[w], aux_params=[unused, phi], solver=Identity())
    assert torch.equal(result.grads[0], torch.zeros_like(unused))


def test_parameters_that_do_not_reach_the_train_loss_are_no_part_of_the_system() -> None:
    w, phi = quadratic()
    elsewhere = torch.ones(2, dtype=DTYPE, device=DEVICE, requires_grad=True)
    train = (w - phi).square().sum() / 2
    result = hypergradient(
        train, (w * elsewhere).sum(), params=[elsewhere, w], aux_params=[phi], solver=ConjugateGradient()
    )
    assert result.report.status is Status.CONVERGED
    torch.testing.assert_close(result.grads[0], elsewhere)


def test_the_mean_of_several_outer_losses_is_meant() -> None:
    w, phi = quadratic()

    def grads(outer: object) -> Tensor:
        train = (w - phi).square().sum()
        return hypergradient(train, outer, params=[w], aux_params=[phi], solver=Identity()).grads[0]  # type: ignore[arg-type]

    torch.testing.assert_close(grads(k * w.square().sum() for k in (1, 3)), grads(2 * w.square().sum()))


def test_losses_that_share_a_graph_can_be_used_and_used_again() -> None:
    w, phi = quadratic()
    features = torch.tanh(w)
    train, outer = (features - phi).square().sum(), features.sum()
    first = hypergradient(train, outer, params=[w], aux_params=[phi], solver=Identity()).grads[0]
    second = hypergradient(train, outer, params=[w], aux_params=[phi], solver=Identity()).grads[0]
    assert torch.equal(first, second)
    train.backward()


def test_the_default_is_three_guarded_terms() -> None:
    w, phi = quadratic()
    losses = (w - phi).square().sum(), w.square().sum()
    default = hypergradient(*losses, params=[w], aux_params=[phi])
    named = hypergradient(*losses, params=[w], aux_params=[phi], solver=Neumann(terms=3, alpha="auto"))
    assert torch.equal(default.grads[0], named.grads[0])


def test_damping_is_added_to_the_hessian() -> None:
    w, phi = quadratic()
    losses = (w - phi).square().sum() / 2, w.square().sum() / 2
    found = hypergradient(*losses, params=[w], aux_params=[phi], solver=Dense(), damping=1.0).grads[0]
    torch.testing.assert_close(found, w / 2)


def test_a_loss_scale_is_divided_out() -> None:
    w, phi = quadratic()
    losses = (w - phi).square().sum() / 2, w.square().sum() / 2
    plain = hypergradient(*losses, params=[w], aux_params=[phi], solver=Dense()).grads[0]
    scaled = hypergradient(*losses, params=[w], aux_params=[phi], solver=Dense(), loss_scale=2.0**16).grads[0]
    torch.testing.assert_close(plain, scaled)


def test_finite_differences_serve_where_there_is_no_second_derivative() -> None:
    w, phi = quadratic()
    w.data, phi.data = w.data.double(), phi.data.double()

    def train() -> Tensor:
        return ((w - phi) ** 4).sum()

    exact = hypergradient(train(), w.square().sum(), params=[w], aux_params=[phi], solver=Dense()).grads[0]
    found = hypergradient(
        FiniteDifference(train, [w]), w.square().sum(), params=[w], aux_params=[phi], solver=Dense()
    ).grads[0]
    assert relative_error(found, exact) < 1e-6


def test_streaming_equals_the_mean_of_the_batches() -> None:
    w, phi = quadratic()
    factors = [1.0, 2.0, 6.0]
    streamed = Streamed(lambda f: Hessian(f * (w - phi).square().sum(), [w]), factors)
    found = hypergradient(streamed, w.square().sum(), params=[w], aux_params=[phi], solver=Dense()).grads[0]
    whole = hypergradient(
        3.0 * (w - phi).square().sum(), w.square().sum(), params=[w], aux_params=[phi], solver=Dense()
    )
    torch.testing.assert_close(found, whole.grads[0])


def diverging(on_failure: str) -> tuple[object, Tensor]:
    w, phi = quadratic()
    losses = (w - phi).square().sum(), w.square().sum()
    solver = Neumann(terms=50, alpha=5.0)
    return hypergradient(*losses, params=[w], aux_params=[phi], solver=solver, on_failure=on_failure), phi  # type: ignore[arg-type]


def test_divergence_warns_and_is_usable() -> None:
    with pytest.warns(SolverWarning, match="diverged"):
        result, _ = diverging("warn")
    assert result.usable  # type: ignore[attr-defined]
    assert result.report.status is Status.DIVERGED  # type: ignore[attr-defined]


def test_divergence_raises_on_request() -> None:
    with pytest.raises(SolverError, match="smaller `alpha`"):
        diverging("raise")


def test_divergence_is_marked_unusable_on_request() -> None:
    result, _ = diverging("skip")
    assert not result.usable  # type: ignore[attr-defined]
    assert result.finite  # type: ignore[attr-defined]


def test_a_result_that_is_not_finite_becomes_zeros_and_is_unusable() -> None:
    w, phi = quadratic()
    train, outer = (w - phi).square().sum(), (w * 0).sqrt().sum()  # the outer loss is 0, its slope 0 · ∞
    with pytest.warns(SolverWarning, match="not finite"):
        result = hypergradient(train, outer, params=[w], aux_params=[phi])
    assert not result.usable
    assert float(result.grads[0].abs().sum()) == 0.0


def test_an_overflow_under_a_loss_scale_is_left_to_the_scaler() -> None:
    w, phi = quadratic()
    train, outer = (w - phi).square().sum(), (w * 0).sqrt().sum()
    result = hypergradient(train, outer, params=[w], aux_params=[phi], loss_scale=2.0, on_failure="raise")
    assert not result.finite
    assert not result.usable
