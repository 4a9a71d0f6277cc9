"""The networks for 32 × 32 images are the published ones."""

import pytest
import torch
from torch import nn

from auxilearn.errors import InputError
from auxilearn.models import ConvFourHeads, VGG16Heads, WideResNetHeads


def weights(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_the_wide_residual_network_has_the_published_size() -> None:
    def expected(blocks: int, k: int, classes: int) -> int:
        total, below = 27 * 16, 16
        for width in (16 * k, 32 * k, 64 * k):
            for _ in range(blocks):
                total += 9 * below * width + 9 * width * width + 2 * below + 2 * width
                total += below * width if below != width else 0
                below = width
        return total + 2 * below + (below + 1) * classes

    assert weights(WideResNetHeads([10], seed=0)) == expected(2, 4, 10) == 2_748_890
    # The paper's table: WRN-40-1 has 0.6 M.
    assert weights(WideResNetHeads([10], seed=0, depth=40, widen=1)) == expected(6, 1, 10)
    assert round(weights(WideResNetHeads([10], seed=0, depth=40, widen=1)) / 1e6, 1) == 0.6


def test_groups_of_the_wide_residual_network_halve_the_image_twice() -> None:
    net = WideResNetHeads([3], seed=0, depth=10, widen=2)
    assert net.body(torch.zeros(2, 3, 32, 32)).shape == (2, 128, 8, 8)


def test_vgg_has_its_thirteen_convolutions_and_ends_in_one_pixel() -> None:
    net = VGG16Heads([20, 100], seed=0, widths=(2, 3, 4, 5, 6))
    found = [(m.in_channels, m.out_channels) for m in net.body.modules() if isinstance(m, nn.Conv2d)]
    pairs = [(3, 2), (2, 2), (2, 3), (3, 3), (3, 4), (4, 4), (4, 4), (4, 5), (5, 5), (5, 5), (5, 6), (6, 6), (6, 6)]
    assert found == pairs
    assert net.body(torch.zeros(2, 3, 32, 32)).shape == (2, 6, 1, 1)


def test_conv_four_is_flattened() -> None:
    net = ConvFourHeads([10], seed=0, channels=(2, 3, 4, 5), side=48)
    assert net.heads[0].in_features == 5 * 3 * 3
    assert net(torch.zeros(2, 3, 48, 48))[0].shape == (2, 10)


def test_bad_sizes_are_told() -> None:
    with pytest.raises(InputError, match=r"6 n \+ 4.*It is 18"):
        WideResNetHeads([2], seed=0, depth=18)
    with pytest.raises(InputError, match="`widen` must be"):
        WideResNetHeads([2], seed=0, widen=0)
    with pytest.raises(InputError, match="divisible by 4"):
        WideResNetHeads([2], seed=0, depth=10, widen=1)(torch.zeros(1, 3, 30, 32))
    with pytest.raises(InputError, match="It names 3"):
        ConvFourHeads([2], seed=0, channels=(1, 2, 3))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"divisible by 16.*It is 40"):
        ConvFourHeads([2], seed=0, side=40)
    with pytest.raises(InputError, match=r"must be 32 × 32\. They are 28 × 28"):
        ConvFourHeads([2], seed=0)(torch.zeros(1, 3, 28, 28))
    with pytest.raises(InputError, match="It names 4"):
        VGG16Heads([2], seed=0, widths=(1, 2, 3, 4))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be 32 × 32"):
        VGG16Heads([2], seed=0, widths=(1, 1, 1, 1, 1))(torch.zeros(1, 3, 64, 64))
