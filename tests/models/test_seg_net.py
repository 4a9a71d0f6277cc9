"""The fully convolutional network predicts every pixel, near ones from near ones."""

import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.models import SegNet


def test_every_pixel_has_outputs() -> None:
    assert SegNet(5)(torch.zeros(2, 3, 16, 20)).shape == (2, 5, 16, 20)


def test_images_of_a_batch_do_not_mix_and_far_pixels_do_not_matter() -> None:
    net = SegNet(2, seed=0).double()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(net(x)[0, 0, 32, 32], x)
    assert not slope[1].any()
    assert slope[0, :, 32, 32].all()
    assert not slope[0, :, 0].any()


def test_it_is_twice_differentiable() -> None:
    net = SegNet(1, width=2, seed=0).double()
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grads = torch.autograd.grad(net(x).square().mean(), tuple(net.parameters()), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in grads), tuple(net.parameters()), allow_unused=True)
    assert all(g is None or g.isfinite().all() for g in second)
    assert any(g is not None and g.any() for g in second)


def test_the_seed_decides() -> None:
    a, b, c = (SegNet(1, seed=s).head.weight for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_bad_sizes_are_told() -> None:
    with pytest.raises(InputError, match="They are 15 × 16"):
        SegNet(1)(torch.zeros(1, 3, 15, 16))
    with pytest.raises(InputError, match="`width` must be an integer of at least 1"):
        SegNet(1, width=0)
