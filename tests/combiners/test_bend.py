"""The activation of the nonlinear combiners."""

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.testing import assert_close

from auxilearn.combiners._bend import Bend, stacked_bends
from auxilearn.errors import InputError
from support import DEVICE, DTYPE

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6} if DTYPE in {torch.float32, torch.float64} else {"rtol": 3e-2, "atol": 3e-2}


def points(n=41):
    return torch.linspace(-6, 6, n, device=DEVICE, dtype=DTYPE)[:, None]


def learned(tau, shift=0.0, level=1.0):
    bend = Bend(1, "learned", level=level).to(DEVICE, DTYPE)
    bend.tau.data.fill_(tau)
    bend.shift.data.fill_(shift)
    return bend


def test_starts_as_the_identity():
    assert torch.equal(learned(0.0)(points()), points())


@pytest.mark.parametrize("tau", [-3.0, -0.4, 0.7, 20.0])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_formula(tau, shift):
    z, b, q = points(), shift - 1.0, math.tanh(tau)
    expected = z + 2 * q * (torch.cosh((z + b) / 2).log() - math.log(math.cosh(b / 2)))
    assert_close(learned(tau, shift)(z), expected, **TOLERANCE)


@pytest.mark.parametrize("tau", [-3.0, -0.4, 0.7])
def test_slope(tau):
    z = points().requires_grad_()
    (slope,) = torch.autograd.grad(learned(tau, 0.3)(z).sum(), z)
    assert_close(slope, 1 + math.tanh(tau) * torch.tanh((z.detach() - 0.7) / 2), **TOLERANCE)


def test_extremes_are_softplus_and_its_mirror_image():
    z = points()
    convex, concave = (Bend(1, kind, level=1.0).to(DEVICE, DTYPE) for kind in ("convex", "concave"))
    start = torch.full_like(z, -1.0)
    assert_close(convex(z), 2 * F.softplus(z - 1) - 2 * F.softplus(start), **TOLERANCE)
    assert_close(concave(z), -2 * F.softplus(1 - z) + 2 * F.softplus(-start), **TOLERANCE)
    assert convex.tau is None
    assert [n for n, _ in concave.named_parameters()] == ["shift"]


@pytest.mark.parametrize("kind", ["learned", "convex", "concave"])
@pytest.mark.parametrize("size", [1.0, 50.0, 1e4])
def test_never_falls_not_even_by_rounding(kind, size):
    generator = torch.Generator().manual_seed(0)
    bend = Bend(64, kind, level=1.0).to(DEVICE, DTYPE)
    for p in bend.parameters():
        p.data.copy_(size * torch.randn(64, generator=generator))
    z = (torch.randn(200, 64, generator=generator) * size).to(DEVICE, DTYPE).requires_grad_()
    (slope,) = torch.autograd.grad(bend(z).sum(), z)
    assert (slope >= 0).all()
    assert slope.isfinite().all()


def test_acts_on_channels_of_images():
    bend = Bend(3, "learned", level=1.0).to(DEVICE, DTYPE)
    bend.tau.data.copy_(torch.tensor([0.0, 1.0, -1.0]))
    image = torch.rand(2, 3, 4, 5, device=DEVICE, dtype=DTYPE)
    found = bend(image)
    for i in range(4):
        for j in range(5):
            assert_close(found[:, :, i, j], bend(image[:, :, i, j]))


@pytest.mark.parametrize("kind", ["learned", "convex", "concave"])
def test_a_stack_bends_around_losses_of_one(kind):
    level = torch.ones(1, 2, dtype=torch.float64)
    for bend in stacked_bends((2, 2, 2), kind).double():
        assert_close(torch.full_like(level, bend.level), level)
        z = level.clone().requires_grad_()
        level = bend(z)
        assert_close(torch.autograd.grad(level.sum(), z)[0], torch.ones_like(level))
        level = level.detach()


def test_refuses_unknown_kinds():
    with pytest.raises(InputError, match="`bend` must be one of 'learned', 'convex', 'concave'"):
        Bend(2, "relu", level=1.0)
    assert "2, 'learned', level=1" in repr(Bend(2, "learned", level=1.0))
