"""SegNet is the published one: its number of weights, its shapes, its pooling indices."""

import pytest
import torch
from torch import nn

from auxilearn.errors import InputError
from auxilearn.models import SegNetSplit


def test_it_has_as_many_weights_as_the_published_network() -> None:
    # MTAN's code divides by the 24 981 069 weights of a network with the 13 classes alone.
    assert sum(p.numel() for p in SegNetSplit([13], seed=0).parameters()) == 24_981_069


def test_all_convolutions_are_those_of_the_published_network() -> None:
    widths = (2, 3, 4, 5, 6)
    found = sorted(
        (m.in_channels, m.out_channels, m.kernel_size[0])
        for m in SegNetSplit([7, 1], seed=0, widths=widths).modules()
        if isinstance(m, nn.Conv2d)
    )
    a, b, c, d, e = widths
    encoder = [(3, a), (a, a), (a, b), (b, b), (b, c), (c, c), (c, c), (c, d), (d, d), (d, d), (d, e), (e, e), (e, e)]
    decoder = [(e, d), (d, d), (d, d), (d, c), (c, c), (c, c), (c, b), (b, b), (b, b), (b, a), (a, a), (a, a), (a, a)]
    heads = [(a, a, 3), (a, 7, 1), (a, a, 3), (a, 1, 1)]
    assert found == sorted([(*pair, 3) for pair in encoder + decoder] + heads)


def test_every_pixel_of_every_task_has_outputs() -> None:
    net = SegNetSplit([13, 1, 3], seed=0, widths=(2, 2, 2, 2, 2))
    assert [y.shape for y in net(torch.zeros(2, 3, 32, 96))] == [(2, n, 32, 96) for n in (13, 1, 3)]


def test_unpooling_puts_each_maximum_where_it_was() -> None:
    net = SegNetSplit([1], seed=0, widths=(3,)).double()
    x = torch.randn(1, 3, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    encoded, decoded = net.body(x)
    low, high = encoded[0].last, decoded[0].above
    for channel in range(3):
        for row in range(0, 6, 2):
            for column in range(0, 8, 2):
                before = low[0, channel, row : row + 2, column : column + 2]
                after = high[0, channel, row : row + 2, column : column + 2]
                place = divmod(int(before.argmax()), 2)
                assert after[place] == before.max()
                assert int((after != 0).sum()) == int(before.max() != 0)


def test_bad_sizes_are_told() -> None:
    net = SegNetSplit([1], seed=0, widths=(1, 1, 1, 1, 1))
    with pytest.raises(InputError, match=r"divisible by 32\. They are 40 × 64"):
        net(torch.zeros(1, 3, 40, 64))
    with pytest.raises(InputError, match=r"shape \(B, 3, H, W\)\. It is \(1, 1, 32, 32\)"):
        net(torch.zeros(1, 1, 32, 32))
    with pytest.raises(InputError, match="`widths` is empty"):
        SegNetSplit([1], seed=0, widths=())
    with pytest.raises(InputError, match=r"`widths\[1\]` must be an integer"):
        SegNetSplit([1], seed=0, widths=(1, 0))
