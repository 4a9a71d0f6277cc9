"""One model's training: batches, accumulation, outer steps, and errors that change nothing."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auxilearn import hypergradient
from auxilearn.combiners import MLP, Linear
from auxilearn.errors import InputError
from auxilearn.solvers import Identity
from auxilearn.training import Problem
from auxilearn.training._data import rows_of
from auxilearn.training._evaluate import initial_losses
from auxilearn.training._objective import Combined, Weighted
from auxilearn.training._run import Run
from auxilearn.training._upper import Upper
from auxilearn.weighting import AutoLambda, Equal, MainOnly, Weighting
from support import DEVICE, close
from training.tiny import (
    LABELS,
    adam,
    data,
    learned,
    logits,
    losses,
    net,
    problem,
    same,
    sgd,
    training,
    weights_of,
)


def run(found: Problem | None = None, rule: Weighting | None = None, **changes: Any) -> Run:
    found = problem() if found is None else found
    rows, model, settings = rows_of(found), found.new_model(), training(**changes)
    scale = initial_losses(found, rows, model, seed=0)
    objective = Weighted(Equal() if rule is None else rule, scale, main=0, steps=settings.steps)
    return Run(found, rows, settings, model, scale, objective, labelled=rows.labelled)


def online(found: Problem | None = None, *, combiner: Any = Linear, outer: Tensor | None = None, **changes: Any) -> Run:
    found = problem() if found is None else found
    rows, model, settings = rows_of(found), found.new_model(), training(**changes)
    scale = initial_losses(found, rows, model, seed=0)
    method = learned(combiner=combiner)
    upper = Upper(method, 2, 1, DEVICE)
    objective = Combined(upper, scale, main=0)
    return Run(
        found, rows, settings, model, scale, objective, labelled=rows.labelled, outer=outer, online=(method, upper)
    )


def part(rows: slice) -> Any:
    return tuple(t[rows] for t in data())


def test_a_step_is_that_of_a_plain_loop() -> None:
    found = run(optimizer=sgd)
    model = net()
    optimizer = sgd(model.parameters())
    for number in range(5):
        drawn = run(optimizer=sgd)
        for _ in range(number):
            drawn._sampler.draw()
        rows = drawn._sampler.draw()
        values = losses(model, tuple(t[rows] for t in data()))
        means = torch.stack([values[rows < LABELS, 0].mean(), values[:, 1].mean(), values[:, 2].mean()])
        optimizer.zero_grad()
        means.sum().backward()
        optimizer.step()
        found.step()
        assert torch.allclose(found.means, means.detach())
    assert found.number == 5
    for p, q in zip(found.model.parameters(), model.parameters(), strict=True):
        assert close(p.detach(), q.detach(), 1e-10)


def test_two_half_batches_are_one_batch() -> None:
    whole, halves = run(optimizer=sgd), run(optimizer=sgd)
    for _ in range(3):
        whole.train_step([(part(slice(0, 40)), None)])
        halves.train_step([(part(slice(0, 20)), None), (part(slice(20, 40)), None)])
    for p, q in zip(whole.model.parameters(), halves.model.parameters(), strict=True):
        assert close(p.detach(), q.detach(), 1e-10)
    drawn = run(accumulate=3)
    drawn.step()
    assert drawn.number == 1


def test_main_only_sees_labelled_rows_only() -> None:
    seen: list[int] = []

    def counting(model: nn.Module, batch: Any) -> Tensor:
        seen.append(len(batch[0]))
        return losses(model, batch)

    found = run(problem(losses=counting), MainOnly())
    seen.clear()
    found.step()
    assert seen == [16]
    other = run(problem(losses=counting))
    seen.clear()
    other.step()
    assert seen == [32]


@pytest.mark.parametrize("combiner", [Linear, MLP])
def test_the_outer_step_is_the_hypergradient(combiner: Any) -> None:
    torch.manual_seed(0)
    found = online(combiner=combiner)
    for p in found._online[1].phi:
        p.data += 0.1
    before = [p.detach().clone() for p in found._online[1].phi]
    reference = found._online[1].combiner().requires_grad_()
    model, scale = found.model, found._scale
    values = losses(model, part(slice(0, 30))) / scale
    inputs = values[:, 1:] if combiner is MLP else values[:, 1:].mean(0)
    outer = (losses(model, part(slice(30, 60))) / scale)[:, 0].mean()
    result = hypergradient(
        values[:, 0].mean() + reference(inputs),
        outer,
        params=model.parameters(),
        aux_params=reference.parameters(),
        solver=Identity(),
    )
    optimizer = found._online[1].optimizer
    seen: list[Tensor] = []
    optimizer.register_step_pre_hook(lambda *_: seen.extend(p.grad[0].clone() for p in found._online[1].phi))
    report = found.outer_step((part(slice(0, 30)), None), (part(slice(30, 60)), None))
    assert not report.failed
    for g, expected in zip(seen, result.grads, strict=True):
        assert torch.allclose(g, expected, rtol=1e-4, atol=1e-7)
    assert not same(before, [p.detach() for p in found._online[1].phi])
    assert len(found.path) == 1


def test_outer_steps_come_when_they_are_due_and_leave_no_trace() -> None:
    found = problem(net(nn.BatchNorm1d(6), nn.Dropout(0.3)))
    one, other = online(found), online(found)
    other._online = None
    for number in range(6):
        for each in (one, other):
            torch.manual_seed(number)
            each.step()
        assert len(one.path) == (0, 0, 1, 1, 2, 2)[number]
        if number == 1:  # from then on the weights differ, but not by what the outer passes did to the model
            assert same(weights_of(one.model), weights_of(other.model))
    batches = next(m for m in one.model if isinstance(m, nn.BatchNorm1d)).num_batches_tracked
    assert int(batches) == 6


def test_the_outer_batch_must_hold_a_main_label() -> None:
    found = online()
    nothing = torch.zeros(10, dtype=torch.bool)
    with pytest.raises(InputError, match="The outer batch must hold main labels"):
        found.outer_step((part(slice(10)), None), (part(slice(10)), nothing))
    with pytest.raises(InputError, match="This method learns none"):
        run().outer_step((part(slice(10)), None), (part(slice(10)), None))


def broken(model: nn.Module, batch: Any) -> Tensor:
    found = losses(model, batch)
    return torch.where(batch[0][:, :1].isfinite(), found, torch.nan)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_broken_batch_changes_nothing(accumulate: int) -> None:
    found = online(problem(net(nn.BatchNorm1d(6), nn.Tanh()), losses=broken), optimizer=adam)
    good, bad = part(slice(0, 20)), part(slice(0, 20))
    bad[0][3, 0] = torch.nan
    for _ in range(3):
        found.train_step([(good, None)])
        found.outer_step((good, None), (good, None))
    before = weights_of(found.model)
    phi = [p.detach().clone() for p in found._online[1].phi]
    state = str(found.state_dict()["descent"])
    batches = [(good, None)] * (accumulate - 1) + [(bad, None)]
    for failing in (
        lambda: found.train_step(batches),
        lambda: found.outer_step((bad, None), (good, None)),
        lambda: found.outer_step((good, None), (bad, None)),
    ):
        with pytest.raises(InputError, match="Every loss must be finite"):
            failing()
    assert same(before, weights_of(found.model))  # BatchNorm statistics, too
    assert same(phi, [p.detach() for p in found._online[1].phi])
    assert state == str(found.state_dict()["descent"])
    assert found.number == 3
    assert all(p.grad is None for p in found.model.parameters())
    found.train_step([(good, None)])
    assert all(t.isfinite().all() for t in weights_of(found.model))


def test_a_rule_may_look_at_another_batch() -> None:
    found = run(rule=AutoLambda(lr=0.1, every=1))
    found.step()
    first = found.weights.clone()
    for _ in range(3):
        found.step()
    assert ((found.weights - first).abs() > 0.05).any()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_trains(precision: Any) -> None:
    values = tuple(t.float() if t.is_floating_point() else t for t in data())
    found = online(problem(net(dtype=torch.float32), data=values), precision=precision, steps=60)
    start = None
    for _ in range(60):
        found.step()
        start = found.means.clone() if start is None else start
    assert found.means[0] < 0.8 * start[0]
    assert found.means.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in found.model.parameters())
    assert logits(found.model, values)[0].isfinite().all()


def test_it_goes_on_where_it_stood() -> None:
    found = problem(net(nn.BatchNorm1d(6), nn.Dropout(0.3)))
    one, other = online(found), online(found)
    for _ in range(5):
        one.step()
    other.load_state_dict(deepcopy(one.state_dict()))
    torch.manual_seed(1)
    one.step()
    torch.manual_seed(1)
    other.step()
    assert same(weights_of(one.model), weights_of(other.model))
    assert torch.equal(one.weights, other.weights)
    assert one.settings == other.settings
    assert one.learns
    assert not run().learns
