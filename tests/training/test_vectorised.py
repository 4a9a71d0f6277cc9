"""What can be vectorised is, and what cannot be is looped."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auxilearn.errors import InputError
from auxilearn.training._fleet import Fleet
from auxilearn.training._looped import Looped
from auxilearn.training._vectorised import Vectorised, fleet
from training.fleets import MODELS, M
from training.tiny import data, losses, net, problem


def built(function: Any = losses, model: nn.Module | None = None, size: int = M) -> Fleet:
    found = problem(model, losses=function)
    return fleet(found, found.new_model(), size, data(), None)


def test_dropout_is_drawn_for_each_model_by_itself_and_off_in_evaluation() -> None:
    found = problem(net(nn.Dropout(0.5)))
    models = Vectorised(found, [found.new_model() for _ in range(M)])
    first = models.measure(data(), None).values
    assert not torch.allclose(first[0], first[1])
    models.train(False)
    second = models.measure(data(), None).values
    assert torch.allclose(second[0], second[1])
    models.train()
    assert torch.equal(models.logits(data())[0][0], models.logits(data())[0][1])
    assert not torch.allclose(*models.measure(data(), None).values[:2])  # looking at logits left the mode as it was


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_can_is_vectorised(name: str) -> None:
    models = built(model=MODELS[name]())
    assert isinstance(models, Vectorised)
    values = models.measure(data(), None).values
    assert torch.allclose(values[0], values[1])


def test_a_single_model_is_looped() -> None:
    assert isinstance(built(size=1), Looped)


def looking(model: nn.Module, batch: Any) -> Tensor:
    found = losses(model, batch)
    return found * 2 if found.mean().item() > 1e9 else found


class LooksInTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return z if not self.training or float(z.detach().sum()) < math.inf else z + 1


class Asserting(LooksInTraining):
    def forward(self, x: Tensor) -> Tensor:
        assert type(next(self.net.parameters())) is nn.Parameter
        return self.net(x)


def depends(model: nn.Module, batch: Any) -> Tensor:
    # Something that vmap accepts, and computes otherwise than a single model.
    found = losses(model, batch)
    return found * (1.0 if type(next(model.parameters())) is nn.Parameter else 3.0)


@pytest.mark.parametrize(
    ("function", "model"),
    [
        (looking, None),
        (depends, None),
        (losses, LooksInTraining()),
        (losses, Asserting()),
        (losses, net(nn.BatchNorm1d(6, momentum=None))),
    ],
)
def test_what_vmap_refuses_or_computes_otherwise_is_looped(function: Any, model: nn.Module | None) -> None:
    models = built(function, model)
    assert isinstance(models, Looped)
    values = models.measure(data(), None).values
    assert values.shape == (M, 60, 3)
    assert torch.allclose(values[0], values[1])
    assert models.module(0).training


def test_a_users_mistake_is_not_taken_for_a_refusal_of_vmap() -> None:
    with pytest.raises(InputError, match="`losses` must return"):
        built(lambda model, batch: losses(model, batch).mean())


def test_the_start_is_not_changed() -> None:
    model = net(nn.BatchNorm1d(6), nn.Dropout(0.5))
    model[1].eval()
    found = problem(model)
    before, random = {n: t.clone() for n, t in model.state_dict().items()}, torch.get_rng_state()
    fleet(found, model, M, data(), None)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert [m.training for m in model] == [True, False, True, True]
