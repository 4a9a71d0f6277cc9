"""Many models in one pass compute what they compute one by one."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auxilearn.training._descent import Descent
from auxilearn.training._fleet import Fleet
from auxilearn.training._looped import Looped
from auxilearn.training._vectorised import Vectorised
from support import DEVICE, normal
from training.fleets import MODELS, M
from training.tiny import CLASSES, data, losses, masked, net, problem, training


def both(model: nn.Module, function: Any = losses) -> tuple[Looped, Vectorised]:
    """Return two fleets of models that differ, with equal weights."""
    found = problem(model, losses=function)
    models = []
    for m in range(M):
        copy = found.new_model()
        with torch.no_grad():
            for i, p in enumerate(copy.parameters()):
                p.add_(0.1 * normal(*p.shape, seed=100 * m + i))
        models.append(copy)
    looped = Looped(found, models)
    vectorised = Vectorised(found, [deepcopy(looped.module(m)) for m in range(M)])
    return looped, vectorised


def stacked(looped: Looped, values: Any) -> list[Tensor]:
    """Return something of each trainable weight, as the vectorised fleet has it."""
    rows = [[values(p) for p in looped.module(m).parameters() if p.requires_grad] for m in range(M)]
    return [torch.stack(row) for row in zip(*rows, strict=True)]


def states(models: Fleet) -> list[dict[str, Tensor]]:
    return [models.module(m).state_dict() for m in range(M)]


@pytest.mark.parametrize("function", [losses, masked])
@pytest.mark.parametrize("name", MODELS)
def test_losses_gradients_and_training_are_those_of_each_alone(name: str, function: Any) -> None:
    looped, vectorised = both(MODELS[name](), function)
    assert [tuple(p.shape) for p in vectorised.params] == [tuple(p.shape) for p in stacked(looped, lambda p: p)]
    small = training(optimizer=lambda params: torch.optim.SGD(params, lr=1e-3))
    descents = [Descent(f.params, small, DEVICE) for f in (looped, vectorised)]
    factors = normal(M, 3, seed=9).abs()
    batch, labelled = data(), torch.arange(60, device=DEVICE) < 24
    for _ in range(4):
        found = [f.measure(batch, labelled) for f in (looped, vectorised)]
        assert torch.equal(found[0].present, found[1].present)
        assert torch.allclose(found[0].values, found[1].values, rtol=1e-9)
        totals = [(f.means() * factors).sum() for f in found]
        for p, q in zip(
            stacked(looped, dict(zip(looped.params, torch.autograd.grad(totals[0], looped.params), strict=True)).get),
            torch.autograd.grad(totals[1], vectorised.params),
            strict=True,
        ):
            assert torch.allclose(p, q, rtol=1e-8, atol=1e-12)
        for f, descent in zip((looped, vectorised), descents, strict=True):
            descent.step([lambda f=f: (f.measure(batch, labelled).means() * factors).sum()])
    for one, other in zip(states(looped), states(vectorised), strict=True):
        assert list(one) == list(other)
        assert all(torch.allclose(a, other[n], rtol=1e-7) for n, a in one.items())
    a, b = (f.logits(batch) for f in (looped, vectorised))
    assert a[0].shape == (M, 60, CLASSES)
    assert torch.allclose(a[0], b[0], rtol=1e-7)
    assert torch.equal(a[1], b[1])


@pytest.mark.parametrize("name", ["plain", "batch norm", "attention"])
def test_second_derivatives_are_those_of_each_alone(name: str) -> None:
    looped, vectorised = both(MODELS[name]())
    found = []
    for models in (looped, vectorised):
        with models.second_order():
            means = models.measure(data(), None).means()
        own = [p for p in models.module(0).parameters() if p.requires_grad]
        directions = [normal(*p.shape, seed=7) for p in own] * (M if models is looped else 1)
        grads = torch.autograd.grad(means.square().sum(), models.params, create_graph=True)
        product = sum((g * d).sum() for g, d in zip(grads, directions, strict=True))
        found.append(torch.autograd.grad(product, models.params))
    expected = stacked(looped, dict(zip(looped.params, found[0], strict=True)).get)
    for p, q in zip(expected, found[1], strict=True):
        assert torch.allclose(p, q, rtol=1e-7, atol=1e-10)


def test_the_outer_pass_leaves_no_trace() -> None:
    for models in both(net(nn.BatchNorm1d(6), nn.Dropout(0.5))):
        before, random = [{n: t.clone() for n, t in s.items()} for s in states(models)], torch.get_rng_state()
        with models.second_order():
            models.measure(data(), None)
        assert torch.equal(random, torch.get_rng_state())
        for one, other in zip(before, states(models), strict=True):
            assert all(torch.equal(t, other[n]) for n, t in one.items())


def test_each_model_is_clipped_by_itself() -> None:
    looped, vectorised = both(net())
    factors = torch.tensor([1e-3, 1.0, 1e3], device=DEVICE, dtype=torch.float64)[:, None]
    for models in (looped, vectorised):
        (models.measure(data(), None).means() * factors).sum().backward()
    before = stacked(looped, lambda p: p.grad.clone())
    norms = torch.stack([g.reshape(M, -1).square().sum(1) for g in before]).sum(0).sqrt()
    for models in (looped, vectorised):
        models.clip(1.0)
    after = [p.grad for p in vectorised.params]
    for g, one, other in zip(before, stacked(looped, lambda p: p.grad), after, strict=True):
        for m in range(M):
            assert torch.allclose(one[m], g[m] * min(1.0, 1 / float(norms[m])), rtol=1e-4)
        assert other is not None
        assert torch.allclose(one, other, rtol=1e-7)


def test_a_saved_fleet_is_restored() -> None:
    for make in (0, 1):
        first, second = both(net(nn.BatchNorm1d(6)))[make], both(net(nn.BatchNorm1d(6), seed=1))[make]
        first.measure(data(), None)
        second.load_state_dict(first.state_dict())
        for one, other in zip(states(first), states(second), strict=True):
            assert all(torch.equal(t, other[n]) for n, t in one.items())
