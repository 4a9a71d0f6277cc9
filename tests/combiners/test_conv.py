"""The monotone network on loss images: what it computes, and that borders count like the rest."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.testing import assert_close

from auxilearn.combiners import Conv
from support import DEVICE, DTYPE

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5} if DTYPE.itemsize >= 4 else {"rtol": 3e-2, "atol": 3e-2}


def make(trained=False, **options):
    torch.manual_seed(0)
    combiner = Conv(2, **options).to(DEVICE, DTYPE)
    if trained:
        for p in combiner.parameters():
            p.data += 0.5 * torch.randn(p.shape).to(p)
    return combiner


def pixel_weights(combiner, height, width, value=1.0):
    losses = torch.full((1, 2, height, width), value, device=DEVICE, dtype=DTYPE, requires_grad=True)
    return torch.autograd.grad(combiner(losses), losses)[0][0] * height * width  # (K, H, W), 1 on average


def test_is_the_network_of_its_parts():
    combiner = make(trained=True, channels=(3, 4), main=1)
    losses = torch.rand(2, 2, 8, 12, device=DEVICE, dtype=DTYPE)
    image = losses
    for kernel, bend in zip(combiner.kernels, combiner.bends, strict=True):
        image = F.avg_pool2d(bend(F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel())), 2)
    image = F.conv2d(image, combiner.head()[None, :, None, None])
    assert_close(combiner(losses), image.mean() + losses[:, 1].mean(), **TOLERANCE)


@pytest.mark.parametrize("bend", ["learned", "convex", "concave"])
@pytest.mark.parametrize("size", [(4, 4), (8, 12), (12, 4), (1, 1)])
def test_all_pixels_count_the_same_at_the_start(bend, size):
    found = pixel_weights(make(bend=bend), *size)
    assert_close(found, torch.ones_like(found), **TOLERANCE)


@pytest.mark.parametrize("size", [(5, 7), (9, 9), (13, 10), (2, 3), (1, 6), (49, 97)])
def test_borders_are_not_diluted_where_pooling_windows_hang_over(size):
    found = pixel_weights(make(), *size)
    assert_close(found.mean((1, 2)), torch.ones(2, device=DEVICE, dtype=DTYPE), **TOLERANCE)  # nothing is lost
    border = torch.cat((found[:, 0], found[:, -1], found[:, :, 0], found[:, :, -1]), 1)
    assert border.min() > 0.7
    assert found.max() < 1.6


def test_borders_are_not_diluted_by_trained_kernels():
    found = pixel_weights(make(trained=True), 16, 16)
    edges = torch.stack([found[:, 0, 4:-4], found[:, -1, 4:-4], found[:, 4:-4, 0], found[:, 4:-4, -1]])
    inside = found[:, 4:-4, 4:-4].mean((1, 2))
    ratio = edges.mean((0, 2)) / inside  # one-sided kernels favour one edge over the opposite one, but not the inside
    assert_close(ratio, torch.ones_like(ratio), rtol=0.1, atol=0.0)


def test_zero_padding_would_dilute_them():
    # The check above is worth something: this is what it finds for the padding of the original.
    image = torch.ones(1, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    kernel = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)
    (found,) = torch.autograd.grad(F.conv2d(image, kernel, padding=1).sum(), image)
    assert found[0, 0, 0, 8].item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 1)])
def test_a_constant_image_gives_what_one_pixel_gives(size):
    combiner = make(trained=True)
    for value in (0.0, 0.5, 3.0):
        one = combiner(torch.full((1, 2, 1, 1), value, device=DEVICE, dtype=DTYPE))
        assert_close(combiner(torch.full((3, 2, *size), value, device=DEVICE, dtype=DTYPE)), one, **TOLERANCE)


def test_images_of_a_batch_do_not_mix():
    combiner = make(trained=True)
    losses = torch.rand(3, 2, 7, 6, device=DEVICE, dtype=DTYPE)
    assert_close(combiner(losses), torch.stack([combiner(image[None]) for image in losses]).mean(), **TOLERANCE)


def test_works_with_channels_last():
    combiner = make(trained=True)
    losses = torch.rand(2, 2, 8, 8, device=DEVICE, dtype=DTYPE)
    assert_close(combiner(losses.to(memory_format=torch.channels_last)), combiner(losses), **TOLERANCE)


def test_backward_pass_is_deterministic():
    losses = torch.rand(2, 2, 8, 8, device=DEVICE, dtype=DTYPE, requires_grad=True)
    torch.use_deterministic_algorithms(True)
    try:
        torch.autograd.grad(make()(losses), losses)
    finally:
        torch.use_deterministic_algorithms(False)
