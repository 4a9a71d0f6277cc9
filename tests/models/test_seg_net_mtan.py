"""The attention network of tasks: its published size, its masks."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from auxilearn.errors import InputError
from auxilearn.models import SegNetMTAN, SegNetSplit


def weights(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_it_has_as_many_weights_as_the_published_network() -> None:
    a, b, c, d, e = widths = (64, 128, 256, 512, 512)

    def mask(inputs: int, outputs: int) -> int:
        return (inputs + outputs + 2) * outputs + 4 * outputs

    def carry(inputs: int, outputs: int) -> int:
        return (9 * inputs + 3) * outputs

    encode = mask(a, a) + sum(mask(2 * w, w) for w in widths[1:])
    decode = mask(2 * a, a) + sum(mask(w + v, v) for v, w in pairwise(widths))
    shared = sum(carry(*pair) for pair in [(a, b), (b, c), (c, d), (d, e), (e, e)])
    shared += sum(carry(*pair) for pair in [(e, d), (d, c), (c, b), (b, a), (a, a)])
    split = weights(SegNetSplit([13, 1, 3], seed=0))
    assert weights(SegNetMTAN([13, 1, 3], seed=0)) == split + shared + 3 * (encode + decode) == 44_229_073


def test_every_pixel_of_every_task_has_outputs_whatever_the_widths() -> None:
    net = SegNetMTAN([13, 1], seed=0, widths=(2, 3, 5, 4, 7))
    assert [y.shape for y in net(torch.zeros(2, 3, 32, 64))] == [(2, 13, 32, 64), (2, 1, 32, 64)]


def test_a_task_that_masks_everything_sees_nothing_of_the_image() -> None:
    net = SegNetMTAN([2, 2], seed=0, widths=(2, 3)).eval()
    with torch.no_grad():
        net.heads[0].decode[0][4].bias.fill_(-200.0)  # the sigmoid becomes 0
    draw = torch.Generator().manual_seed(0)

    def outputs() -> tuple[Tensor, ...]:
        return net(torch.randn(1, 3, 8, 8, generator=draw))

    (first, second), (other, another) = outputs(), outputs()
    assert torch.equal(first, other)
    assert not torch.equal(second, another)


def test_bad_sizes_are_told() -> None:
    with pytest.raises(InputError, match=r"divisible by 4\. They are 10 × 8"):
        SegNetMTAN([1], seed=0, widths=(1, 1))(torch.zeros(1, 3, 10, 8))
    with pytest.raises(InputError, match="`widths` is empty"):
        SegNetMTAN([1], seed=0, widths=())
