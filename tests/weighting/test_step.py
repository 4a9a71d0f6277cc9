"""What a weighting may look at."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from auxilearn.errors import InputError
from auxilearn.weighting import Step
from support import DEVICE, DTYPE, normal
from weighting.loop import Task


def leaf(*values):
    return torch.tensor(values, device=DEVICE, dtype=DTYPE, requires_grad=True)


def make(losses, *params, **changes):
    settings = {"number": 0, "main": 0, "learning_rate": 0.1, **changes}
    return Step(losses, params, **settings)


def test_gradients_are_those_of_each_loss_with_zeros_where_it_does_not_reach():
    task = Task()
    step = task.step()
    for k, row in enumerate(step.gradients()):
        task.net.zero_grad()
        step.losses[k].backward(retain_graph=True)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in step.params]
        assert_close(row, torch.cat([g.flatten() for g in grads]))
    assert not step.gradients().requires_grad


def test_shared_gradients_are_those_of_the_trunk():
    task = Task()
    step = task.step()
    trunk = step.gradients()[:, : sum(p.numel() for p in task.net.trunk.parameters())]
    reached = trunk.any(0)  # some pixels are always black
    assert 0 < reached.sum() < trunk.shape[1]
    assert torch.equal(step.shared_gradients(), trunk[:, reached])
    assert_close(step.gramian(), trunk @ trunk.T)


def test_the_last_shared_gradients_are_those_of_its_last_matrix():
    task = Task()
    step = task.step()
    last = task.net.trunk[2].weight
    for row, loss in zip(step.last_shared_gradients(), step.losses, strict=True):
        (g,) = torch.autograd.grad(loss, last, retain_graph=True)
        assert_close(row, g.flatten())


def test_without_a_shared_matrix_all_shared_weights_count():
    a, b = leaf(1.0, 2.0), leaf(3.0)
    step = make(torch.stack([a.sum() * b.sum(), a[0] + b.sum()]), a, b)
    assert step.last_shared_gradients().tolist() == step.shared_gradients().tolist() == [[3.0, 3.0], [1.0, 1.0]]


@pytest.mark.parametrize("reduce", ["columns", "stack"])
def test_a_last_layer_with_a_row_for_each_loss_is_no_shared_one(reduce):
    trunk, head = nn.Linear(3, 4).to(DEVICE, DTYPE), nn.Linear(4, 2).to(DEVICE, DTYPE)
    z = head(trunk(normal(6, 3))).square()
    losses = z.mean(0) if reduce == "columns" else torch.stack([z[:, 0].mean(), z[:, 1].mean()])
    step = make(losses, *trunk.parameters(), *head.parameters())
    assert step.shared_gradients().shape == (2, 16)
    assert step.last_shared_gradients().shape == (2, 12)


def test_what_two_of_three_losses_share_is_shared_and_the_last_matrix_is_of_all():
    trunk, head = nn.Linear(3, 4).to(DEVICE, DTYPE), nn.Linear(4, 1).to(DEVICE, DTYPE)
    z = trunk(normal(6, 3)).tanh()
    losses = torch.stack([head(z).mean(), head(z).square().mean(), z.square().mean()])
    step = make(losses, *trunk.parameters(), *head.parameters())
    assert step.shared_gradients().shape == (3, 16 + 5)
    assert step.last_shared_gradients().shape == (3, 12)


def test_a_single_loss_is_measured_on_all_weights():
    w = leaf(1.0, 2.0)
    assert make((w[0] * w[0]).reshape(1), w).shared_gradients().tolist() == [[2.0, 0.0]]


def test_losses_that_reach_nothing_have_a_gramian_of_zero():
    w = leaf(1.0, 2.0)
    step = make(0 * w, w)
    assert step.gramian().tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert step.last_shared_gradients().tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_loss_that_reaches_nothing_has_a_zero_gradient_and_does_not_count():
    w = leaf(1.0, 2.0)
    step = make(torch.stack([w.sum(), torch.zeros((), device=DEVICE, dtype=DTYPE)]), w)
    assert step.gradients().tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert step.gramian().tolist() == [[2.0, 0.0], [0.0, 0.0]]


def test_gradients_are_computed_once_and_keep_the_graph(monkeypatch):
    calls = []
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or grad(*a, **k))
    step = Task().step()
    for _ in range(2):
        step.gradients(), step.shared_gradients(), step.gramian(), step.last_shared_gradients()
    assert len(calls) == 1
    step.losses.sum().backward()


def test_gradients_outlive_the_graph_once_they_are_computed():
    step = Task().step()
    before = step.gradients().clone()
    step.losses.sum().backward()
    assert torch.equal(step.gradients(), before)


def test_gradients_are_of_the_weights_type():
    w = torch.ones(2, requires_grad=True, device=DEVICE, dtype=torch.bfloat16)
    assert make(w * w, w).gradients().dtype == torch.bfloat16


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_named(bad):
    w = leaf(1.0, bad)
    with pytest.raises(InputError, match="Loss 1 is"):
        make(1 * w, w)


@pytest.mark.parametrize("main", [-1, 2, 0.0, True])
def test_the_main_loss_must_be_among_them(main):
    w = leaf(1.0, 2.0)
    with pytest.raises(InputError, match="`main` must be the main loss's index"):
        make(w * w, w, main=main)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": -1}, "`number`"),
        ({"learning_rate": -0.1}, "`learning_rate`"),
        ({"learning_rate": math.nan}, "`learning_rate`"),
        ({"params": ()}, "`params`"),
        ({"losses": torch.ones(3, 2)}, r"\(K,\)"),
        ({"losses": torch.ones(())}, r"\(K,\)"),
        ({"losses": torch.ones(0)}, "empty"),
        ({"losses": torch.ones(2, dtype=torch.int64)}, "Did you pass labels"),
    ],
)
def test_bad_input_is_explained(change, message):
    w = leaf(1.0, 2.0)
    settings = {"losses": w * w, "params": (w,), "number": 0, "main": 0, "learning_rate": 0.1, **change}
    with pytest.raises(InputError, match=message):
        Step(**settings)


def test_losses_without_a_graph_have_no_gradients():
    w = leaf(1.0, 2.0)
    with pytest.raises(InputError, match="cut from it"):
        make((w * w).detach(), w).gradients()


def test_a_freed_graph_is_explained():
    w = leaf(1.0, 2.0)
    step = make(w * w, w)
    step.losses.sum().backward()
    with pytest.raises(InputError, match="A graph was freed"):
        step.gradients()


def test_gradients_that_are_not_finite_are_named():
    w = leaf(0.0, 1.0)
    with pytest.raises(InputError, match=r"index \[0, 1\]"):
        make(w.sqrt(), w).gradients()


def test_networks_that_share_nothing_are_compared_on_all_weights():
    first, second = nn.Linear(2, 1).to(DEVICE, DTYPE), nn.Linear(2, 1).to(DEVICE, DTYPE)
    x = normal(3, 2)
    step = make(torch.stack([first(x).sum(), second(x).sum()]), *first.parameters(), *second.parameters())
    assert step.shared_gradients().shape == step.last_shared_gradients().shape == (2, 6)
    assert step.gramian()[0, 1] == 0
