"""Which calls of which layers are recorded, and who holds a parameter."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from auxilearn.solvers._watch import Watch
from support import normal


class Reads(nn.Module):
    """Uses the weight of a layer that it never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.own = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.inner.weight) * self.own


def seen(model: nn.Module, *inputs: Tensor) -> dict[str, tuple[int, list[str]]]:
    watch = Watch(model)
    with watch.watched():
        model(*inputs)
    names = {module: name for name, module in model.named_modules()}
    return {names[m]: (len(calls), sorted(parameters)) for m, calls, parameters in watch.layers()}


def test_each_layer_holds_its_own_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2, bias=False)).double()
    assert seen(model, normal(4, 3)) == {"0": (1, ["bias", "weight"]), "2": (1, ["weight"])}


def test_weights_that_are_read_belong_to_the_module_around() -> None:
    model = nn.Sequential(Reads(), nn.Linear(3, 1)).double()
    assert seen(model, normal(4, 3)) == {"0": (1, ["inner.bias", "inner.weight", "own"]), "1": (1, ["bias", "weight"])}


def test_attention_holds_the_projection_that_it_does_not_call() -> None:
    model = nn.MultiheadAttention(4, 2, batch_first=True).double()
    x = normal(2, 3, 4)
    found = seen(model, x, x, x)
    assert found == {"": (1, ["in_proj_bias", "in_proj_weight", "out_proj.bias", "out_proj.weight"])}


def test_frozen_parameters_and_layers_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).double()
    model[0].requires_grad_(requires_grad=False)
    model[1].bias.requires_grad_(requires_grad=False)
    assert seen(model, normal(4, 3)) == {"1": (1, ["weight"])}


def test_calls_are_counted_and_forgotten_and_hooks_removed() -> None:
    layer = nn.Linear(3, 3).double()
    model = nn.Sequential(layer, layer)
    watch = Watch(model)
    with watch.watched():
        model(normal(4, 3))
    assert [len(calls) for _, calls, _ in watch.layers()] == [2]
    model(normal(4, 3))
    assert [len(calls) for _, calls, _ in watch.layers()] == [2]
    assert not layer._forward_hooks
    watch.forget()
    assert not list(watch.layers())


def test_a_pass_without_gradients_is_not_seen() -> None:
    model = nn.Linear(3, 3).double()
    with torch.no_grad():
        assert not seen(model, normal(4, 3))
