"""Auto-lambda and AuxiNash: hypergradients against finite differences."""

import math

import pytest
import torch
from torch.testing import assert_close

from auxilearn.errors import InputError
from auxilearn.weighting import AutoLambda, AuxiNash, Step
from auxilearn.weighting._bargaining import bargain
from support import DEVICE, DTYPE, normal
from weighting.loop import Task

ETA = 0.3
needs_float64 = pytest.mark.skipif(torch.float64 != DTYPE, reason="finite differences")


def prepared(weighting, num_losses=5):
    weighting.prepare(num_losses, 0, 100)
    return weighting.to(DEVICE, DTYPE)


def outer_after(task, step, weights):
    """The outer loss after one step of plain gradient descent, by moving the weights and back."""
    before = [p.detach().clone() for p in step.params]
    grads = torch.autograd.grad((weights * step.losses).sum(), step.params, retain_graph=True)
    with torch.no_grad():
        for p, g in zip(step.params, grads, strict=True):
            p -= ETA * g
        value = step.outer()
        for p, b in zip(step.params, before, strict=True):
            p.copy_(b)
    return value


def differences(f, x, eps):
    eye = torch.eye(len(x), dtype=x.dtype, device=x.device)
    return torch.stack([(f(x + eps * e) - f(x - eps * e)) / (2 * eps) for e in eye])


@needs_float64
def test_auto_lambda_descends_on_the_outer_loss_after_the_step():
    task, weighting = Task(), prepared(AutoLambda())
    weighting.theta.data.copy_(normal(5, seed=1).abs())
    start = weighting.theta.detach().clone()
    step = task.step(learning_rate=ETA)
    seen = []
    weighting.descend = lambda gradient, minimum: seen.append(gradient)
    weighting.weights(step)
    exact = differences(lambda w: outer_after(task, task.step(learning_rate=ETA), w), start, 1e-5)
    assert_close(seen[0], exact, rtol=1e-6, atol=1e-9)


def test_auto_lambda_restores_the_weights_bit_by_bit_even_after_an_error():
    task, weighting = Task(), prepared(AutoLambda())
    step = task.step(learning_rate=ETA)
    before = [(p.data_ptr(), p.detach().clone()) for p in step.params]

    def broken():
        raise RuntimeError("no data")

    object.__setattr__(step, "outer", broken)
    with pytest.raises(RuntimeError, match="no data"):
        weighting.weights(step)
    for p, (place, value) in zip(step.params, before, strict=True):
        assert p.data_ptr() == place
        assert torch.equal(p, value)


def test_auto_lambda_waits_and_clamps():
    w = torch.zeros(2, dtype=DTYPE, device=DEVICE, requires_grad=True)
    weighting = prepared(AutoLambda(lr=1.0, every=3, minimum=0.05), 2)
    found = []
    for number in range(6):
        losses = torch.stack([(w - 1).square().sum(), (w + 1).square().sum()])
        step = Step(losses, (w,), number, 0, 0.1, outer=lambda: (w - 1).square().sum())
        found.append(weighting.weights(step).tolist())
    assert found[0] == found[1] == found[2] == pytest.approx([1.1, 0.05])
    assert found[3] == found[4] == found[5] != found[0]
    assert found[3][1] == pytest.approx(0.05)


def hypergradient_by_differences(task, weighting, p, eps=1e-5):
    # W' is fixed at the present p, and α moves: to first order in η the derivative is -η ∇L_out(W')ᵀ Jᵀ dα/dp, which
    # the differences find exactly, because they differentiate the whole of it.
    def value(p):
        step = task.step(learning_rate=ETA)
        return outer_after(task, step, bargain(step.gramian(), p, damping=weighting.damping))

    return differences(value, p, eps)


@needs_float64
def test_auxinash_differentiates_the_outer_loss_through_the_bargain():
    task, weighting = Task(), prepared(AuxiNash(max_norm=None))
    p = torch.tensor([1.5, 0.2, 0.9, 1.4, 1.0], dtype=DTYPE, device=DEVICE)
    weighting.preferences.copy_(p)
    step = task.step(learning_rate=ETA)
    weights = weighting.weights(step)
    assert_close(step.gramian() @ weights, p / weights, rtol=1e-3, atol=0.0)  # but for the damping
    grads = torch.autograd.grad((weights * step.losses).sum(), step.params)
    exact = hypergradient_by_differences(task, weighting, p)
    with torch.no_grad():
        for q, g in zip(step.params, grads, strict=True):
            q -= ETA * g
    assert_close(ETA * weighting.hypergradient(step), exact, rtol=1e-6, atol=1e-8)


def test_auxinash_takes_a_clipped_step_with_momentum_and_keeps_its_sum():
    weighting = prepared(AuxiNash(lr=0.2, momentum=0.5, every=2, minimum=0.05), 3)
    slopes = iter([torch.tensor([3.0, -4.0, 0.0]), torch.tensor([0.3, 0.0, -0.4])])
    weighting.hypergradient = lambda step: next(slopes).to(DEVICE, DTYPE)
    task = Task(3)
    p = torch.ones(3, dtype=DTYPE, device=DEVICE)
    v = torch.zeros_like(p)
    for number, slope in [(0, None), (1, [0.6, -0.8, 0.0]), (2, None), (3, [0.3, 0.0, -0.4])]:
        step = task.step(number)
        weighting.weights(step)
        weighting.after(step, lambda: None)
        if slope is not None:
            v = 0.5 * v + torch.tensor(slope).to(v)
            p = (p - 0.2 * v).clamp(min=0.05)
            p = 3 * p / p.sum()
        assert_close(weighting.preferences, p)


def test_auxinash_gives_power_to_what_helps_and_takes_it_from_what_harms():
    class Opposed(Task):
        def losses(self, rows):
            found = super().losses(rows)
            return torch.stack([found[0], found[0] + 0.1 * found[1], 3 - found[0] + found[2]])

    task, weighting = Opposed(3), prepared(AuxiNash(lr=0.05, every=1), 3)
    for number in range(20):
        step = task.step(number)
        weighting.weights(step)
        weighting.after(step, lambda: pytest.fail("AuxiNash does not need them"))
    assert weighting.preferences.argmin() == 2
    assert weighting.preferences.sum().item() == pytest.approx(3.0)


@pytest.mark.parametrize("make", [AutoLambda, AuxiNash])
def test_without_an_outer_loss_nothing_is_changed(make):
    weighting = prepared(make())
    before = str(weighting.state_dict())
    with pytest.raises(InputError, match=f"`{make.__name__}` needs an outer loss"):
        weighting.weights(Task().step(outer=False))
    assert str(weighting.state_dict()) == before


@pytest.mark.parametrize("make", [AutoLambda, lambda: AuxiNash(every=1)])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_outer_loss_that_is_not_finite_changes_nothing(make, bad):
    weighting, task = prepared(make()), Task()
    step = task.step()
    object.__setattr__(step, "outer", lambda: task.losses(task.rows[1])[0] * bad)
    before = str(weighting.state_dict())

    def go():
        weighting.weights(step)
        weighting.after(step, lambda: step.losses)

    with pytest.raises(InputError, match="`outer` must be finite"):
        go()
    assert str(weighting.state_dict()) == before
    assert not any(p.grad is not None for p in step.params)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AutoLambda(lr=0.0), "`lr`"),
        (lambda: AutoLambda(every=0), "`every`"),
        (lambda: AutoLambda(init=0.0, minimum=0.1), "`init`"),
        (lambda: AutoLambda(minimum=-1.0), "`minimum`"),
        (lambda: AuxiNash(lr=math.nan), "`lr`"),
        (lambda: AuxiNash(momentum=-0.1), "`momentum`"),
        (lambda: AuxiNash(every=0), "`every`"),
        (lambda: AuxiNash(minimum=0.0), "`minimum`"),
        (lambda: AuxiNash(max_norm=0.0), "`max_norm`"),
        (lambda: AuxiNash(damping=-1.0), "`damping`"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(InputError, match=message):
        make()
