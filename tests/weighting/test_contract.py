"""What every weighting keeps, on a small real training run."""

import copy
import io

import pytest
import torch

from auxilearn.weighting import Step
from support import DEVICE, DTYPE
from weighting.loop import Task, train
from weighting.methods import FIXED, METHODS, every_method

SMALL = {"imtl-g": 0.005, "geometric mean": 0.01}
"""Learning rates of those whose weights grow large."""


def prepared(name, num_losses=5, main=0):
    weighting = METHODS[name]()
    weighting.prepare(num_losses, main, 40)
    return weighting


def run(weighting, name, task, **settings):
    return train(weighting, task, learning_rate=SMALL.get(name, 0.05), **settings)


@every_method
def test_weights_are_finite_and_the_main_loss_falls(name):
    found = run(prepared(name), name, Task(), stop=40)
    assert found.weights.shape == (40, 5)
    assert found.weights.dtype == DTYPE
    assert not found.weights.requires_grad
    assert found.weights.isfinite().all()
    assert found.weights.abs().sum(1).min() > 1e-3  # something is trained on in every step
    assert found.losses[-5:, 0].mean() < found.losses[:5, 0].mean()
    assert (name in FIXED) == bool((found.weights == found.weights[0]).all())


@every_method
def test_a_saved_state_goes_on_exactly_as_before(name):
    task, weighting = Task(), prepared(name)
    run(weighting, name, task, stop=7)
    other = copy.deepcopy(task)
    file = io.BytesIO()
    torch.save(weighting.state_dict(), file)
    file.seek(0)
    whole = run(weighting, name, task, start=7, stop=20)
    resumed = prepared(name)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    again = run(resumed, name, other, start=7, stop=20)
    assert torch.equal(whole.weights, again.weights)


@every_method
def test_preparing_anew_forgets_everything(name):
    weighting = prepared(name)
    first = run(weighting, name, Task(), stop=8)
    weighting.prepare(5, 0, 40)
    assert torch.equal(run(weighting, name, Task(), stop=8).weights, first.weights)


@every_method
def test_a_copy_goes_its_own_way(name):
    weighting = prepared(name)
    run(weighting, name, Task(), stop=5)
    state = copy.deepcopy(weighting.state_dict())
    twin = copy.deepcopy(weighting)
    run(twin, name, Task(), start=5, stop=12)
    assert str(weighting.state_dict()) == str(state)


@every_method
def test_the_random_state_the_weights_and_the_graph_are_left_alone(name):
    task, weighting = Task(), prepared(name)
    before = [p.detach().clone() for p in task.net.parameters()]
    state = torch.get_rng_state()
    step = task.step()
    weighting.weights(step)
    weighting.after(step, lambda: task.losses(task.rows[0]))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, task.net.parameters(), strict=True))
    assert all(p.grad is None for p in task.net.parameters())
    step.losses.sum().backward()


@every_method
def test_a_single_loss_is_trained_on(name):
    found = run(prepared(name, num_losses=1), name, Task(losses=1), stop=40)
    assert found.weights.shape == (40, 1)
    assert (found.weights > 0.01).all()
    assert found.weights.isfinite().all()
    assert found.losses[-5:].mean() < found.losses[:5].mean()


@every_method
@pytest.mark.parametrize("main", [0, 2])
def test_the_main_loss_may_stand_anywhere(name, main):
    torch.manual_seed(0)
    x, A = torch.randn(4, 3), torch.randn(3, 4)
    order = [0, 1, 2]
    order.insert(main, order.pop(0))  # where the loss that is the main one goes

    def weights(position, order):
        w = torch.ones(4, dtype=DTYPE, device=DEVICE, requires_grad=True)
        values = (A[order].to(w) @ (w * x.T.to(w)[order[0] * 0]).square()).square()
        weighting = prepared(name, 3, position)
        step = Step(values, (w,), 0, position, 0.1, outer=lambda: (w[0] - w[1]).square())
        return weighting.weights(step)

    if name == "pcgrad" or name == "gradvac":
        pytest.skip("its random order is that of the positions")
    moved = weights(main, order)
    torch.testing.assert_close(moved, weights(0, [0, 1, 2])[order])


@every_method
def test_a_loss_without_a_gradient_does_no_harm(name):
    w = torch.tensor([1.0, 2.0], dtype=DTYPE, device=DEVICE, requires_grad=True)
    losses = torch.stack([w.square().sum(), 0 * w.sum() + 1.0, (w - 3).square().sum()])
    weighting = prepared(name, 3)
    step = Step(losses, (w,), 0, 0, 0.1, outer=lambda: w.square().sum())
    found = weighting.weights(step)
    weighting.after(step, lambda: losses)
    assert found.isfinite().all()
    assert found[0] > 0 or found[2] > 0


@every_method
def test_single_precision_is_enough(name):
    w = torch.tensor([1.0, 2.0], device=DEVICE, requires_grad=True)
    losses = torch.stack([w.square().sum(), (w - 1).square().sum(), (w + 3).square().sum()])
    weighting = prepared(name, 3)
    found = weighting.weights(Step(losses, (w,), 0, 0, 0.1, outer=lambda: w.square().sum()))
    assert found.dtype == torch.float32
    assert found.isfinite().all()
