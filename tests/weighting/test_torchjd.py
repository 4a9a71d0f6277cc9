"""The adapters to TorchJD, against the papers' formulas and small problems that can be solved by hand."""

import itertools
import math
import sys

import pytest
import torch
from torch.testing import assert_close
from torchjd import aggregation, scalarization

from auxilearn import _extras
from auxilearn.errors import InputError, MissingExtraError
from auxilearn.weighting import (
    DWA,
    FAMO,
    IMTLG,
    IMTLL,
    MGDA,
    Aggregated,
    CAGrad,
    PCGrad,
    Scalarized,
    Step,
    Uncertainty,
    UPGrad,
)
from support import DEVICE, DTYPE, normal
from weighting.loop import Task
from weighting.methods import needs_cvxpy, needs_quadprog


def prepared(weighting, num_losses):
    weighting.prepare(num_losses, 0, 100)
    return weighting


def linear(J, number=0):
    w = torch.ones(J.shape[1], dtype=J.dtype, device=J.device, requires_grad=True)
    return Step(J @ w, (w,), number, 0, 0.1)


def valued(*losses, number=0, learning_rate=0.1):
    w = torch.tensor(losses, dtype=DTYPE, device=DEVICE, requires_grad=True)
    return Step(1 * w, (w,), number, 0, learning_rate)


def values(*numbers):
    return torch.tensor(numbers, dtype=DTYPE, device=DEVICE)


@pytest.mark.parametrize(("make", "sign", "factor"), [(Uncertainty, -1, 0.5), (IMTLL, 1, 1.0)])
def test_uncertainty_and_imtl_l_descend_on_their_scalarization(make, sign, factor):
    weighting = prepared(make(lr=0.1), 2).to(DEVICE, DTYPE)
    s = torch.zeros(2, dtype=DTYPE, device=DEVICE, requires_grad=True)
    optimizer = torch.optim.Adam([s], lr=0.1)
    for losses in ([4.0, 0.1], [3.0, 0.2], [0.5, 0.3]):
        assert_close(weighting.weights(valued(*losses)), factor * (sign * s.detach()).exp())
        optimizer.zero_grad()
        (factor * ((sign * s).exp() * values(*losses) - sign * s).sum()).backward()
        optimizer.step()


def test_imtl_l_settles_at_the_inverse_of_the_losses():
    weighting = prepared(IMTLL(lr=0.05), 2)
    for _ in range(500):
        weights = weighting.weights(valued(4.0, 0.1))
    assert_close(weights * values(4.0, 0.1), values(1.0, 1.0), rtol=1e-2, atol=0.0)


def test_parameters_take_the_learning_rate_of_the_step():
    weighting = prepared(IMTLL(), 1)
    for learning_rate in (0.1, 0.02):
        before = weighting.scalarizer.log_scale.detach().clone()
        weighting.weights(valued(4.0, learning_rate=learning_rate))
        moved = weighting.scalarizer.log_scale.detach() - before
        assert moved.abs().item() == pytest.approx(learning_rate, rel=0.02)


def test_dwa_compares_the_means_of_the_last_two_epochs():
    weighting = prepared(DWA(temperature=0.5, epoch=2), 2)
    seen = [(4.0, 1.0), (2.0, 1.0), (2.0, 1.0), (1.0, 0.2), (1.0, 1.0)]
    found = []
    for number, losses in enumerate(seen):
        step = valued(*losses, number=number)
        found.append(weighting.weights(step))
        weighting.after(step, lambda: pytest.fail("DWA needs no second look"))
    assert all(torch.equal(w, values(1.0, 1.0)) for w in found[:4])
    rates = values(1.5 / 3.0, 0.6 / 1.0)
    assert_close(found[4], 2 * (rates / 0.5).softmax(0))


def test_famo_follows_its_algorithm():
    lr, decay = 0.1, 0.01
    weighting = prepared(FAMO(lr=lr, weight_decay=decay), 2).to(DEVICE, DTYPE)
    xi = torch.zeros(2, dtype=DTYPE, device=DEVICE, requires_grad=True)
    optimizer = torch.optim.Adam([xi], lr=lr, weight_decay=decay)
    for number, (before, after) in enumerate([((4.0, 1.0), (2.0, 0.9)), ((3.0, 0.7), (2.5, 0.6))]):
        z = xi.softmax(0)
        expected = (z / values(*before)).detach()
        step = valued(*before, number=number)
        assert_close(weighting.weights(step), expected / expected.sum(), rtol=1e-6, atol=0.0)
        weighting.after(step, lambda after=after: values(*after))
        optimizer.zero_grad()
        (xi.grad,) = torch.autograd.grad(z, xi, values(*before).log() - values(*after).log())
        optimizer.step()


def test_famo_gives_more_to_the_loss_that_falls_less():
    weighting = prepared(FAMO(), 2)
    for number in range(20):
        step = valued(1.0, 1.0, number=number)
        weights = weighting.weights(step)
        weighting.after(step, lambda: values(0.5, 0.99))
    assert weights[1] > weights[0] > 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_famo_refuses_negative_losses_and_changes_nothing(when):
    weighting = prepared(FAMO(), 2)
    state = str(weighting.state_dict())
    if when == "before":
        with pytest.raises(InputError, match="lower bounds"):
            weighting.weights(valued(1.0, -1.0))
    else:
        step = valued(1.0, 1.0)
        weighting.weights(step)
        state = str(weighting.state_dict())
        with pytest.raises(InputError, match="lower bounds"):
            weighting.after(step, lambda: values(1.0, -1.0))
    assert str(weighting.state_dict()) == state


@pytest.mark.parametrize("now", [[math.nan, 1.0], [math.inf, 1.0], [1.0]])
def test_losses_after_the_step_must_be_finite(now):
    weighting, step = prepared(FAMO(), 2), valued(1.0, 1.0)
    weighting.weights(step)
    with pytest.raises(InputError, match="Did training diverge"):
        weighting.after(step, lambda: values(*now))


def test_any_scalarizer_can_be_passed_or_made():
    losses = (1.0, 4.0)
    assert_close(prepared(Scalarized(scalarization.Mean()), 2).weights(valued(*losses)), values(0.5, 0.5))
    assert_close(prepared(Scalarized(scalarization.UW), 2).weights(valued(*losses)), values(0.5, 0.5))
    made = prepared(Scalarized(lambda k: scalarization.Constant(torch.arange(1.0, k + 1))), 2)
    assert_close(made.weights(valued(*losses)), values(1.0, 2.0))


def test_a_scalarizer_that_is_passed_is_copied():
    mine = scalarization.IMTLL(2)
    weighting = prepared(Scalarized(mine, lr=0.5), 2)
    weighting.weights(valued(3.0, 4.0))
    assert mine.log_scale.tolist() == [0.0, 0.0]
    assert weighting.scalarizer.log_scale.abs().min() > 0
    assert list(Scalarized(mine).parameters()) == []


def test_a_derivative_that_is_not_finite_is_refused():
    class Logarithms(scalarization.Scalarizer):
        def forward(self, values):
            return values.log().sum()

    weighting = prepared(Scalarized(Logarithms()), 2)
    for losses in ((-1.0, 1.0), (0.0, 1.0)):
        with pytest.raises(InputError, match="Pass positive losses"):
            weighting.weights(valued(*losses))


def test_what_a_scalarizer_complains_of_is_passed_on():
    weighting = prepared(Scalarized(scalarization.GeometricMean()), 2)
    with pytest.raises(InputError, match="only defined for non-negative"):
        weighting.weights(valued(-1.0, 1.0))
    with pytest.raises(InputError, match="should have shape"):
        prepared(Scalarized(scalarization.UW(3)), 2).weights(valued(1.0, 1.0))


@pytest.mark.parametrize(
    "given", [torch.nn.Linear(2, 1), 3, "UW", aggregation.MGDAWeighting()], ids=["module", "int", "str", "weighting"]
)
def test_only_scalarizers_are_taken(given):
    with pytest.raises(InputError, match="`scalarizer` must be a"):
        Scalarized(given)


def test_what_a_function_makes_is_checked():
    with pytest.raises(InputError, match="must make a"):
        prepared(Scalarized(lambda k: torch.nn.Linear(k, 1)), 2)


def test_mgda_of_two_is_in_closed_form():
    for seed in range(8):
        J = normal(2, 4, seed=seed)
        a, b = J
        share = ((b - a) @ b / (a - b).square().sum()).clamp(0, 1)
        found = prepared(MGDA(), 2).weights(linear(J))
        assert_close(found, torch.stack([share, 1 - share]), rtol=1e-5, atol=1e-6)


def test_pcgrad_of_two_is_by_hand():
    J = values(1.0, 1.0, -2.0, 0.5).reshape(2, 2)
    (a, b), dot = J, -1.5
    expected = torch.stack([1 - dot / a.square().sum(), 1 - dot / b.square().sum()])
    assert_close(prepared(PCGrad(), 2).weights(linear(J)), expected)
    friendly = values(1.0, 1.0, 2.0, 0.5).reshape(2, 2)
    assert_close(prepared(PCGrad(), 2).weights(linear(friendly)), values(1.0, 1.0))


def projected(J, orders):
    total = torch.zeros_like(J[0])
    for i, order in enumerate(orders):
        g = J[i].clone()
        for j in order:
            if j != i and g @ J[j] < 0:
                g = g - (g @ J[j]) / (J[j] @ J[j]) * J[j]
        total = total + g
    return total


def test_pcgrad_of_three_is_one_of_the_orders_and_draws_from_its_seed():
    J = values(1.0, 0.2, -0.6, 1.0, -0.5, -1.0).reshape(3, 2)
    permutations = list(itertools.permutations(range(3)))
    possible = torch.stack([projected(J, orders) for orders in itertools.product(permutations, repeat=3)])
    seen = set()
    for number in range(12):
        weights = prepared(PCGrad(), 3).weights(linear(J, number))
        assert (possible - weights @ J).norm(dim=1).min() < 1e-5
        assert torch.equal(prepared(PCGrad(), 3).weights(linear(J, number)), weights)
        assert torch.equal(prepared(PCGrad(seed=number), 3).weights(linear(J)), weights)
        seen.add(tuple(weights.tolist()))
    assert len(seen) > 1


def test_imtl_g_has_the_same_projection_on_every_gradient():
    J = normal(4, 9)
    weights = prepared(IMTLG(), 4).weights(linear(J))
    projections = (J / J.norm(dim=1, keepdim=True)) @ (weights @ J)
    assert_close(projections, projections[:1].expand(4))
    assert weights.sum().item() == pytest.approx(1.0)


@needs_cvxpy
def test_cagrad_is_the_best_of_many_directions_within_its_ball():
    J = values(1.0, 0.3, -0.8, 0.4).reshape(2, 2)
    mean, c = J.mean(0), 0.5
    d = prepared(CAGrad(c=c), 2).weights(linear(J)) @ J
    angles = torch.linspace(0, 2 * math.pi, 20_001, dtype=DTYPE, device=DEVICE)[:, None]
    circle = mean + c * mean.norm() * torch.cat([angles.cos(), angles.sin()], 1)
    best = (circle @ J.T).amin(1).amax()
    assert (J @ d).min().item() == pytest.approx(best.item(), rel=1e-3)
    assert (d - mean).norm() <= c * mean.norm() * (1 + 1e-3)
    assert_close(prepared(CAGrad(c=0.0), 2).weights(linear(J)), values(0.5, 0.5))


@needs_quadprog
def test_upgrad_is_the_mean_of_the_projections():
    J = values(1.0, 0.3, -0.8, 0.4).reshape(2, 2)
    a, b = J
    # With two gradients that conflict, each is projected on the plane of the other.
    expected = (a - (a @ b) / (b @ b) * b + b - (a @ b) / (a @ a) * a) / 2
    assert_close(prepared(UPGrad(), 2).weights(linear(J)) @ J, expected, rtol=1e-2, atol=1e-3)


def test_any_gramian_weighting_can_be_passed():
    J = normal(3, 5)
    found = prepared(Aggregated(aggregation.AlignedMTLWeighting()), 3).weights(linear(J))
    assert_close(found, aggregation.AlignedMTLWeighting()(J @ J.T))


@pytest.mark.parametrize("given", [aggregation.MGDA(), scalarization.Mean(), torch.nn.ReLU(), None])
def test_an_aggregator_or_anything_else_is_refused(given):
    with pytest.raises(InputError, match="not `MGDA"):
        Aggregated(given)


def test_weights_that_are_not_finite_or_too_few_are_refused():
    class Broken(aggregation.Weighting):
        def forward(self, gramian):
            return gramian[0] / 0

    with pytest.raises(InputError, match="`Broken` must return 2 finite weights"):
        prepared(Aggregated(Broken()), 2).weights(linear(normal(2, 3)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uncertainty(lr=0.0), "`lr`"),
        (lambda: IMTLL(lr=-1.0), "`lr`"),
        (lambda: DWA(temperature=0.0), "`temperature`"),
        (lambda: DWA(epoch=0), "`epoch`"),
        (lambda: FAMO(lr=0.0), "`lr`"),
        (lambda: FAMO(weight_decay=-1.0), "`weight_decay`"),
        (lambda: MGDA(tolerance=0.0), "`tolerance`"),
        (lambda: MGDA(max_steps=0), "`max_steps`"),
        (lambda: PCGrad(seed=-1), "`seed`"),
        (lambda: CAGrad(c=-1.0), "`c`"),
        (lambda: CAGrad(c=math.nan), "`c`"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("make", [Uncertainty, IMTLL, DWA, FAMO, MGDA, PCGrad, IMTLG])
def test_without_torchjd_the_extra_is_named(make, monkeypatch):
    for module in ("torchjd.scalarization", "torchjd.aggregation"):
        monkeypatch.setitem(sys.modules, module, None)
    assert _extras.require is not None
    with pytest.raises(MissingExtraError, match="extra `experiments`"):
        make()


@pytest.mark.parametrize(("make", "name"), [(CAGrad, "CAGradWeighting"), (UPGrad, "UPGradWeighting")])
def test_without_a_solver_of_torchjd_the_extra_is_named(make, name, monkeypatch):
    def missing(**settings):
        raise ImportError("requires ['cvxpy'] to be installed.")

    monkeypatch.setattr(aggregation, name, missing)
    with pytest.raises(MissingExtraError, match="cvxpy"):
        make()


def test_an_unprepared_adapter_has_an_empty_memory():
    for weighting in (IMTLL(), MGDA()):
        state = weighting.state_dict()
        assert state == {"_extra_state": {}}
        weighting.load_state_dict(state)


@pytest.mark.parametrize("make", [MGDA, PCGrad, IMTLG])
def test_a_loss_without_a_gradient_takes_no_part(make):
    J = normal(3, 5)
    expected = prepared(make(), 3).weights(linear(J))
    found = prepared(make(), 4).weights(linear(torch.cat([J[:1], torch.zeros_like(J[:1]), J[1:]])))
    assert_close(found[[0, 2, 3]], expected)
    assert found[1] == 0
    assert prepared(make(), 3).weights(linear(0 * J)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "make", [MGDA, PCGrad, IMTLG, pytest.param(CAGrad, marks=needs_cvxpy), pytest.param(UPGrad, marks=needs_quadprog)]
)
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_small_gradients_are_not_taken_for_zero(make, factor):
    J = values(1.0, 0.3, -0.8, 0.4).reshape(2, 2)
    large, small = prepared(make(), 2).weights(linear(J)), prepared(make(), 2).weights(linear(factor * J))
    assert_close(large, small, rtol=1e-4, atol=1e-6)


def test_a_stateful_weighting_is_shown_every_loss():
    J = torch.cat([normal(2, 5), torch.zeros(1, 5, dtype=DTYPE, device=DEVICE)])
    weighting = prepared(Aggregated(aggregation.GradVacWeighting(), stateful=True), 3)
    weighting.weights(linear(J))
    assert weighting.aggregator._phi_t.shape == (3, 3)


def test_adapters_train_the_digits_on_the_shared_weights():
    step = Task().step()
    found = prepared(MGDA(), 5).weights(step)
    G = step.gramian()
    w = torch.full((5,), 0.2, dtype=G.dtype, device=G.device)
    assert found @ G @ found < w @ G @ w
