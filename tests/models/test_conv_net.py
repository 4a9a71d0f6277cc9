"""The network is one model of the stack."""

import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.models import ConvNet, StackedConvNet


def test_it_computes_what_the_stack_computes() -> None:
    net, stack = ConvNet(12, seed=0), StackedConvNet([1], 1, 12)
    with torch.no_grad():
        stack.conv1.copy_(net.conv1.weight)
        stack.conv2.copy_(net.conv2.weight)
        stack.hidden.copy_(net.hidden.weight.T[None])
        stack.head.copy_(net.head.weight.T[None])
        for i, layer in enumerate((net.conv1, net.conv2, net.hidden, net.head), 1):
            bias = 0.1 * torch.randn(layer.bias.shape, generator=torch.Generator().manual_seed(i))
            layer.bias.copy_(bias)
            getattr(stack, f"bias{i}").copy_(bias.reshape(getattr(stack, f"bias{i}").shape))
    x = torch.randn(5, 14, 14, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(x), stack(x[:, None])[0, 0])


@pytest.mark.parametrize("side", [8, 13, 14, 28])
def test_images_of_any_size_fit(side: int) -> None:
    assert ConvNet(10, side=side)(torch.zeros(3, side, side)).shape == (3, 10)


def test_the_seed_decides_and_the_global_state_does_not() -> None:
    before = torch.get_rng_state()
    a, b, c = (ConvNet(10, seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["head.weight"], c["head.weight"])


def test_sizes_out_of_range_are_told() -> None:
    with pytest.raises(InputError, match="`outputs` must be an integer of at least 1"):
        ConvNet(0)
