"""One weight for each loss."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from auxilearn.combiners import Linear
from auxilearn.errors import InputError
from support import DEVICE, DTYPE

EXAMPLES = settings(deadline=None, max_examples=50, derandomize=True)


def make(num_losses=3, **options):
    return Linear(num_losses, **options).to(DEVICE, DTYPE)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 3, 5, 2)])
def test_is_the_weighted_sum_of_means(shape):
    combiner = make(init=[0.5, 1.0, 2.0], main=2)
    losses = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(DEVICE, DTYPE)
    means = losses if losses.ndim == 1 else losses.movedim(1, 0).flatten(1).mean(1)
    assert_close(combiner(losses), 0.5 * means[0] + means[1] + 2 * means[2] + means[2])


def test_weights_are_those_that_are_used_and_have_no_graph():
    combiner = make(main=0)
    combiner.weight.theta.data.copy_(torch.tensor([-1.0, 0.0, 2.0]))
    assert not combiner.weights.requires_grad
    losses = torch.rand(6, 3, device=DEVICE, dtype=DTYPE)
    skip = torch.tensor([1.0, 0.0, 0.0], device=DEVICE, dtype=DTYPE)
    assert_close(combiner.weights_at(losses), combiner.weights + skip)


@pytest.mark.parametrize("init", [2.0, [2.0, 2.0, 2.0], torch.full((3,), 2.0)])
def test_start_is_given_for_all_or_for_each(init):
    assert make(init=init).weights.tolist() == [2.0, 2.0, 2.0]


def test_weight_decay_shrinks_toward_the_start():
    combiner = make()
    combiner.weight.theta.data.copy_(torch.tensor([-2.0, 1.0, 3.0]))
    optimizer = torch.optim.SGD(combiner.parameters(), lr=0.1, weight_decay=1.0)
    for p in combiner.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(200):
        optimizer.step()
    assert_close(combiner.weights, torch.ones(3, device=DEVICE, dtype=DTYPE), rtol=1e-2, atol=0.0)


@EXAMPLES
@given(theta=st.floats(-1e6, 1e6), initial=st.floats(-9.9, 9.9))
def test_signed_weights_stay_within_the_cap(theta, initial):
    combiner = Linear(1, monotone=False, init=initial).double()
    combiner.weight.theta.data.fill_(theta)
    assert abs(combiner.weights.item()) <= 10 * (1 + 1e-6)
    combiner(torch.ones(1, dtype=torch.float64)).backward()
    assert combiner.weight.theta.grad.item() > 0


def test_signed_weights_follow_their_formula():
    initial = torch.tensor([-3.0, 0.0, 4.0], device=DEVICE, dtype=DTYPE)
    combiner = make(monotone=False, init=initial.float(), cap=5.0)
    assert torch.equal(combiner.weights, initial)
    combiner.weight.theta.data.fill_(1.5)
    u = initial / (1 - (initial / 5) ** 2).sqrt() + 1.5
    assert_close(combiner.weights, u / (1 + (u / 5) ** 2).sqrt())
    assert "(3,), cap=5.0" in repr(combiner)


def test_signed_weights_without_a_cap_are_plain():
    combiner = make(monotone=False, cap=None, init=0.0)
    combiner.weight.theta.data.copy_(torch.tensor([-20.0, 0.0, 20.0]))
    assert combiner.weights.tolist() == [-20.0, 0.0, 20.0]


def test_signed_weights_are_twice_differentiable():
    weight = Linear(3, monotone=False, init=[-3.0, 0.0, 4.0]).double().weight
    theta = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)

    def signed(t):
        return torch.func.functional_call(weight, {"theta": t}, ())

    assert torch.autograd.gradcheck(signed, theta)
    assert torch.autograd.gradgradcheck(signed, theta)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": 0.0}, "above 0, below 10"),
        ({"init": 10.0}, "above 0, below 10"),
        ({"init": -10.0, "monotone": False}, "above -10, below 10"),
        ({"init": torch.nan, "monotone": False, "cap": None}, "Initial weights must be finite. They"),
        ({"init": [1.0, 2.0]}, r"`init` must be one number, or one for each of the 3 losses\. Its shape is \(2,\)"),
        ({"cap": -1.0}, "`cap`"),
        ({"cap": -1.0, "monotone": False}, "`cap`"),
        ({"growth": "relu"}, "`growth`"),
    ],
)
def test_refuses_wrong_arguments(options, message):
    with pytest.raises(InputError, match=message):
        Linear(3, **options)
