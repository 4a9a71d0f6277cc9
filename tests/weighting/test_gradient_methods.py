"""GCS, OL-AUX and GradNorm against their formulas."""

import pytest
import torch
from torch.testing import assert_close

from auxilearn.errors import InputError
from auxilearn.weighting import GCS, OLAUX, GradNorm, Step
from support import DEVICE, DTYPE, normal
from weighting.loop import Task, train

needs_float64 = pytest.mark.skipif(torch.float64 != DTYPE, reason="finite differences")


def linear(rows, *, number=0, main=0, learning_rate=0.1):
    """A step whose gradients are the rows."""
    J = torch.as_tensor(rows, dtype=DTYPE, device=DEVICE)
    w = torch.ones(J.shape[1], dtype=DTYPE, device=DEVICE, requires_grad=True)
    return Step(J @ w, (w,), number, main, learning_rate)


def prepared(weighting, num_losses, main=0):
    weighting.prepare(num_losses, main, 100)
    return weighting


def test_gcs_is_the_cosine_where_it_is_positive():
    J = normal(6, 4, seed=3)
    cosine = torch.nn.functional.cosine_similarity(J, J[2:3])
    weighted = prepared(GCS(weighted=True, scale=2.0), 6, 2).weights(linear(J, main=2))
    expected = 2 * cosine.clamp(min=0)
    expected[2] = 1.0
    assert_close(weighted, expected)
    plain = prepared(GCS(), 6, 2).weights(linear(J, main=2))
    assert plain.tolist() == [1.0 if c > 0 else 0.0 for c in cosine]
    assert 0 < plain.sum() < 6


def test_gcs_does_not_use_a_gradient_that_is_orthogonal_or_zero():
    J = [[1.0, 1.0], [1.0, -1.0], [0.0, 0.0], [2.0, 2.0]]
    for weighted in (False, True):
        assert_close(
            prepared(GCS(weighted=weighted), 4).weights(linear(J)),
            torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=DTYPE, device=DEVICE),
        )
    assert prepared(GCS(), 2).weights(linear([[0.0, 0.0], [1.0, 1.0]])).tolist() == [1.0, 0.0]


def test_gcs_measures_the_shared_weights_only():
    step = Task().step()
    trunk = step.shared_gradients()
    expected = torch.nn.functional.cosine_similarity(trunk, trunk[:1]).clamp(min=0)
    assert_close(prepared(GCS(weighted=True), 5).weights(step), expected)


def test_olaux_sums_inner_products_and_steps_every_n_steps():
    rows = [normal(3, 5, seed=i) for i in range(4)]
    weighting = prepared(OLAUX(every=2, lr=0.3, minimum=0.0), 3).to(DEVICE, DTYPE)
    found = [weighting.weights(linear(J, number=i)) for i, J in enumerate(rows)]
    assert found[0].tolist() == [1.0, 1.0, 1.0]
    # The first step of Adam is lr times the sign; the second is by hand.
    first, second = (sum(0.1 * J @ J[0] for J in rows[i : i + 2]) for i in (0, 2))
    theta = torch.ones(3, dtype=DTYPE, device=DEVICE)
    m = v = torch.zeros_like(theta)
    for t, total in enumerate((first, second), start=1):
        g = -total
        g[0] = 0
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        theta = theta - 0.3 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        theta = theta.clamp(min=0)
        assert_close(found[2 * t - 1], theta)
    assert torch.equal(found[2], found[1])


def test_olaux_never_goes_below_its_minimum():
    weighting = prepared(OLAUX(every=1, lr=0.4, minimum=0.1), 2)
    for number in range(10):
        weights = weighting.weights(linear([[1.0, 1.0], [-1.0, -1.0]], number=number))
    assert weights.tolist() == [1.0, pytest.approx(0.1)]


@needs_float64
def test_grad_norm_descends_on_its_loss():
    torch.manual_seed(0)
    J, alpha = normal(3, 4), 0.7
    weighting = prepared(GradNorm(alpha=alpha, lr=0.01), 3).to(DEVICE, DTYPE)
    weighting.theta.data.copy_(normal(3, seed=1))
    weighting.initial.copy_(torch.tensor([2.0, 0.5, 1.0]))
    w = torch.ones(4, dtype=DTYPE, device=DEVICE, requires_grad=True)
    losses = (J @ w).abs()
    lengths = J.norm(dim=1)
    theta = weighting.theta.detach().clone()

    def objective(theta, goal=None):
        G = 3 * theta.softmax(0) * lengths
        ratio = losses.detach() / weighting.initial
        goal = G.mean() * (ratio / ratio.mean()) ** alpha if goal is None else goal
        return (G - goal).abs().sum(), goal

    _, goal = objective(theta)
    eps = 1e-6
    slope = torch.stack(
        [
            (objective(theta + eps * e, goal)[0] - objective(theta - eps * e, goal)[0]) / (2 * eps)
            for e in torch.eye(3, dtype=DTYPE, device=DEVICE)
        ]
    )
    seen = []
    weighting.descend = seen.append
    weights = weighting.weights(Step(losses, (w,), 0, 0, 0.1))
    assert_close(weights, 3 * theta.softmax(0))
    assert_close(seen[0], slope, rtol=1e-6, atol=1e-6)


def test_grad_norm_makes_lengths_equal_where_rates_are():
    step = linear([[1.0, 1.0], [10.0, 10.0], [3.0, -3.0]])
    weighting = prepared(GradNorm(alpha=0.0, lr=0.01), 3)
    for _ in range(600):
        weights = weighting.weights(step)
    lengths = weights * step.gradients().norm(dim=1)
    assert lengths.max() / lengths.min() < 1.1
    assert weights.sum().item() == pytest.approx(3.0)


def test_grad_norm_takes_the_first_positive_loss_as_the_initial_one():
    weighting = prepared(GradNorm(), 2)
    w = torch.tensor([1.0, 1.0], dtype=DTYPE, device=DEVICE, requires_grad=True)
    weighting.weights(Step(torch.stack([w.sum(), w[0] - w[1]]), (w,), 0, 0, 0.1))
    assert weighting.initial[0] == 2
    assert weighting.initial[1].isnan()
    weighting.weights(Step(torch.stack([2 * w.sum(), w.sum() + 3]), (w,), 1, 0, 0.1))
    assert weighting.initial.tolist() == [2.0, 5.0]


def test_grad_norm_looks_at_the_last_shared_matrix():
    step = Task().step()
    first = prepared(GradNorm(), 5)
    first.weights(step)
    lengths = step.last_shared_gradients().norm(dim=1)
    # The longest is to be shortened, the shortest lengthened; initial rates are all 1.
    assert first.theta[lengths.argmax()] < 0 < first.theta[lengths.argmin()]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GCS(scale=0.0), "`scale`"),
        (lambda: OLAUX(lr=0.0), "`lr`"),
        (lambda: OLAUX(every=0), "`every`"),
        (lambda: OLAUX(init=-1.0), "`init`"),
        (lambda: OLAUX(minimum=-1.0), "`minimum`"),
        (lambda: GradNorm(alpha=-1.0), "`alpha`"),
        (lambda: GradNorm(on="first"), "`on`"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_olaux_raises_what_helps_and_lowers_what_harms():
    class Opposed(Task):
        def losses(self, rows):
            main = super().losses(rows)[:1]
            return torch.cat([main, main, -0.1 * main + 1])

    weights = train(prepared(OLAUX(every=1), 3), Opposed(1), stop=20).weights
    assert weights[-1, 1] > 1.1
    assert weights[-1, 2] < 0.9
