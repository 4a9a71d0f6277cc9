"""The perceptron is its formula, and a function of its seed."""

import math

import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.models import MLP


def test_it_is_its_formula() -> None:
    net = MLP(6, 3, widths=(5, 4), seed=1).double()
    x = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h = x.reshape(7, 6)
    for layer in net.layers:
        z = h @ layer.weight.T + layer.bias  # type: ignore[operator, union-attr]
        h = z / (1 + torch.exp(-z))
    torch.testing.assert_close(net(x), h @ net.head.weight.T + net.head.bias)


def test_without_hidden_layers_it_is_linear() -> None:
    net = MLP(4, 2, widths=())
    assert len(list(net.parameters())) == 2


def test_initial_weights_have_the_deviation_they_should() -> None:
    net = MLP(400, 300, widths=(500,), seed=0)
    assert float(net.layers[0].weight.detach().std()) == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert float(net.head.weight.detach().std()) == pytest.approx(math.sqrt(1 / 500), rel=0.02)
    assert all(not p.any() for name, p in net.named_parameters() if name.endswith("bias"))


def test_the_seed_decides_and_the_global_state_does_not() -> None:
    before = torch.get_rng_state()
    a, b, c = (MLP(4, 2, seed=s).head.weight for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(("inputs", "outputs", "widths", "name"), [(0, 1, (), "inputs"), (1, 1, (2, 0), "widths")])
def test_sizes_out_of_range_are_told(inputs: int, outputs: int, widths: tuple[int, ...], name: str) -> None:
    with pytest.raises(InputError, match=rf"`{name}.*` must be an integer of at least 1"):
        MLP(inputs, outputs, widths=widths)
