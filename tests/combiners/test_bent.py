"""One weight for each loss, after a bend of each sample's loss."""

import pytest
import torch
from torch.testing import assert_close

from auxilearn.combiners import Bent, Linear
from auxilearn.errors import InputError
from support import DEVICE, DTYPE


def draw(batch=6, losses=3):
    return 3 * torch.rand(batch, losses, generator=torch.Generator().manual_seed(1)).to(DEVICE, DTYPE)


def learned(num_losses=3, **options):
    combiner = Bent(num_losses, **options).to(DEVICE, DTYPE)
    for i, p in enumerate(combiner.parameters()):
        p.data.copy_(torch.linspace(-0.5, 1.0, p.numel()) * (i + 1))
    return combiner


@pytest.mark.parametrize("shared", [True, False])
def test_formula(shared):
    combiner, losses = learned(shared=shared, main=0), draw()
    total = losses[:, 0].mean()
    for k, loss in enumerate(losses.T):
        j = 0 if shared else k
        s, b, q = combiner.sharpness[j], combiner.bend.shift[j] - 1, combiner.bend.tau[j].tanh()
        for value in loss:
            bent = s * value + 2 * q * (torch.cosh((s * value + b) / 2).log() - torch.cosh(b / 2).log())
            total = total + combiner.weight()[k] * bent / s / len(losses)
    assert_close(combiner(losses), total)


@pytest.mark.parametrize("shared", [True, False])
def test_one_scaled_loss_is_one_sample(shared):
    combiner, losses = learned(shared=shared), draw(batch=1)
    assert_close(combiner(losses[0]), combiner(losses))


def test_without_a_bend_it_is_linear_for_any_sharpness():
    bent, linear, losses = Bent(3).to(DEVICE, DTYPE), Linear(3).to(DEVICE, DTYPE), draw()
    bent.theta.data.fill_(1.5)
    for combiner in (bent, linear):
        combiner.weight.theta.data.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    assert_close(bent(losses), linear(losses))
    assert_close(bent.weights, linear.weights)


def test_pull_of_a_large_cross_entropy_falls_like_that_of_the_generalised_one():
    # d/dℓ of (1 − pᵠ)/ϕ is p^ϕ = e^(−ϕ ℓ): the shape of a concave bend beyond its knee.
    combiner = Bent(1, bend="concave").double()
    combiner.bend.shift.data.fill_(6.0)  # the knee at s ℓ = −5
    losses = torch.linspace(1, 6, 20, dtype=torch.float64)[:, None].requires_grad_()
    (slope,) = torch.autograd.grad(combiner(losses), losses)
    ratio = slope / (-losses.detach()).exp()
    assert_close(ratio, ratio.mean().expand_as(ratio), rtol=3e-3, atol=0.0)


def test_parts_right_from_wrong_labels_where_a_weight_cannot():
    # A mean is fitted to targets of one source, of which 40 % are wrong; the outer loss wants the right ones. The inner
    # optimum, a fixed point of weighted means, is differentiated through its iterations.
    target = 1.0 + 0.1 * torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target[:80] = 6.0
    errors = {}
    for name, combiner in {"linear": Linear(1).double(), "bent": Bent(1).double()}.items():
        optimizer = torch.optim.Adam(combiner.parameters(), lr=0.1)
        for _ in range(60):
            w = torch.zeros((), dtype=torch.float64)
            for _ in range(10):
                losses = (w - target).square()[:, None] / 10
                leaf = losses if losses.requires_grad else losses.requires_grad_()
                (slope,) = torch.autograd.grad(combiner(leaf), leaf, create_graph=True)
                w = (slope[:, 0] * target).sum() / slope.sum()
            optimizer.zero_grad()
            (w - 1.0).square().backward()
            optimizer.step()
        errors[name] = float((w.detach() - 1.0).abs())
    assert errors["bent"] < 0.1 < 1.0 < errors["linear"]


def test_sharpness_stays_between_its_bounds_and_can_come_back():
    combiner = Bent(1).double()
    combiner.bend.tau.data.fill_(-1.0)
    for theta, bound in {1e6: 10.0, -1e6: 0.1}.items():
        combiner.theta.data.fill_(theta)
        assert combiner.sharpness.item() == pytest.approx(bound)
        combiner.zero_grad()
        combiner(torch.tensor([[2.0]], dtype=torch.float64)).backward()
        assert combiner.theta.grad.item() != 0
    assert not combiner.sharpness.requires_grad


def test_refuses_wrong_arguments():
    with pytest.raises(InputError, match="`bend`"):
        Bent(2, bend="relu")
    with pytest.raises(InputError, match="`cap`"):
        Bent(2, cap=-1.0)
    with pytest.raises(InputError, match="`init`"):
        Bent(2, init=[1.0, 2.0, 3.0])
