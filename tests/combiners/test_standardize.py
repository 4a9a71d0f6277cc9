"""Losses on a common scale."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call
from torch.testing import assert_close

from auxilearn.combiners import MLP, Conv, Linear, Standardized
from auxilearn.errors import InputError
from auxilearn.safety import second_order
from support import DEVICE, DTYPE

EXAMPLES = settings(deadline=None, max_examples=50, derandomize=True)


def tensor(*values):
    return torch.tensor(values, device=DEVICE, dtype=DTYPE)


def make(inner=None, **options):
    return Standardized(inner if inner is not None else Linear(2), **options).to(DEVICE, DTYPE)


FIRST = tensor([1.0, 100.0], [3.0, 300.0])  # (B, K)
SECOND = tensor([4.0, 100.0], [4.0, 100.0])


def test_initial_scale_is_that_of_the_first_batch_for_good():
    combiner = make()
    assert_close(combiner(FIRST), tensor(2.0)[0])
    assert_close(combiner.scale, tensor(2.0, 200.0))
    assert_close(combiner(SECOND), tensor(4 / 2 + 100 / 200)[0])
    assert_close(combiner.scale, tensor(2.0, 200.0))


def test_scale_is_that_of_absolute_values():
    combiner = make()
    combiner(tensor([-1.0, 2.0], [1.0, -4.0]))
    assert_close(combiner.scale, tensor(1.0, 3.0))


def test_running_scale_averages_evenly_and_then_with_momentum():
    combiner = make(mode="running", momentum=0.75)
    sizes = [1.0, 3.0, 8.0, 4.0, 12.0, 2.0]
    mean = 0.0
    for t, size in enumerate(sizes):
        combiner(tensor([size, -size]))
        keep = min(t / (t + 1), 0.75)
        mean = keep * mean + (1 - keep) * size
        assert_close(combiner.scale, tensor(mean, mean))
    assert combiner.batches == len(sizes)


@EXAMPLES
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20))
def test_running_scale_starts_as_the_plain_mean(sizes):
    combiner = Standardized(Linear(1), mode="running", momentum=0.99).double()
    for size in sizes:
        combiner(torch.tensor([size], dtype=torch.float64))
    assert combiner.scale.item() == pytest.approx(sum(sizes) / len(sizes))


@EXAMPLES
@given(scale=st.floats(1e-6, 1e6))
@pytest.mark.parametrize("mode", ["initial", "running"])
def test_does_not_depend_on_the_units_of_a_loss(scale, mode):
    units = torch.tensor([1.0, scale], dtype=torch.float64)
    plain, scaled = (Standardized(MLP(2, generator=torch.Generator().manual_seed(0)), mode=mode).double() for _ in "ab")
    for batch in (FIRST.double().cpu(), SECOND.double().cpu()):
        assert_close(scaled(batch * units), plain(batch))


def test_given_scale_is_used_at_once_and_never_changed():
    combiner = make(scale=[2.0, 100.0])
    combiner.eval()
    assert_close(combiner(FIRST), tensor(3.0)[0])
    combiner.train()
    assert_close(combiner(SECOND), tensor(3.0)[0])
    assert_close(combiner.scale, tensor(2.0, 100.0))


def test_given_scale_counts_as_one_batch_of_the_running_one():
    combiner = make(mode="running", scale=3.0)
    combiner(tensor([1.0, 5.0]))
    assert_close(combiner.scale, tensor(2.0, 4.0))


def test_evaluation_and_borrowed_passes_do_not_update():
    combiner = make(mode="running")
    combiner(FIRST)
    kept = copy.deepcopy(combiner.state_dict())
    combiner.eval()
    assert_close(combiner(SECOND), tensor(4 / 2 + 100 / 200)[0])
    combiner.train()
    with second_order(combiner):
        combiner(SECOND)
    combiner.weights_at(SECOND)
    assert all(torch.equal(v, kept[k]) for k, v in combiner.state_dict().items())


def test_first_batch_inside_a_borrowed_pass_does_not_count():
    combiner = make()
    with second_order(combiner):
        combiner(SECOND)
    combiner(FIRST)
    assert_close(combiner.scale, tensor(2.0, 200.0))


@pytest.mark.parametrize("mode", ["initial", "running"])
def test_needs_to_know_the_scale_before_it_is_evaluated(mode):
    combiner = make(mode=mode)
    with pytest.raises(InputError, match=r"It has seen no batch\. Call it on a batch in training mode"):
        combiner.weights_at(FIRST)
    combiner.eval()
    with pytest.raises(InputError, match="It has seen no batch"):
        combiner(FIRST)
    assert combiner.batches == 0


@pytest.mark.parametrize("mode", ["initial", "running"])
def test_resumes_exactly(mode):
    first = make(mode=mode)
    first(FIRST)
    second = make(mode=mode)
    second.load_state_dict(first.state_dict())
    for batch in (SECOND, FIRST):
        assert torch.equal(first(batch), second(batch))
        assert torch.equal(first.scale, second.scale)


@pytest.mark.parametrize("mode", ["initial", "running"])
def test_scale_is_a_constant_of_the_derivative(mode):
    combiner = make(mode=mode)
    losses = FIRST.clone().requires_grad_()
    (slope,) = torch.autograd.grad(combiner(losses), losses)
    assert_close(slope, (0.5 / tensor(2.0, 200.0)).expand(2, 2))
    assert not combiner.scale.requires_grad


def test_graphs_of_earlier_batches_survive_an_update():
    combiner = make(mode="running")
    first, second = FIRST.clone().requires_grad_(), SECOND.clone().requires_grad_()
    (combiner(first) + combiner(second)).backward()
    assert_close(first.grad, (0.5 / tensor(2.0, 200.0)).expand(2, 2))


def test_zero_first_loss_is_named_and_nothing_is_changed():
    combiner = make()
    with pytest.raises(InputError, match=r"above 0, to divide by it\. For loss 1 it is 0\. Pass `scale=`"):
        combiner(tensor([1.0, 0.0]))
    assert combiner.batches == 0
    assert combiner.scale.tolist() == [1.0, 1.0]


def test_running_scale_waits_for_a_loss_that_starts_at_zero():
    combiner = make(mode="running")
    assert_close(combiner(tensor([2.0, 0.0])), tensor(1.0)[0])
    assert_close(combiner(tensor([2.0, 4.0])), tensor(3.0)[0])  # 4 ÷ mean(0, 4)


def test_running_scale_has_a_floor():
    combiner = make(mode="running", minimum=0.5, momentum=0.0)
    assert_close(combiner(tensor([0.25, 1.0])), tensor(1.5)[0])


def test_running_scale_forgets_an_overflow():
    combiner = make(Linear(2, check_finite=False), mode="running", check_finite=False)
    combiner(FIRST)
    assert combiner(tensor([torch.inf, 400.0])).isinf()
    assert_close(combiner.scale, tensor(2.0, 300.0))


def test_wrong_losses_are_refused_before_the_scale_sees_them():
    combiner = make(mode="running")
    for wrong in (tensor([1.0, torch.nan]), tensor([1.0])):
        with pytest.raises(InputError):
            combiner(wrong)
    assert combiner.batches == 0


@pytest.mark.parametrize("mode", ["initial", "running"])
def test_divides_loss_images_channel_by_channel(mode):
    torch.manual_seed(0)
    combiner = make(Conv(2), mode=mode)
    image = torch.rand(3, 2, 4, 6, device=DEVICE, dtype=DTYPE) + 0.1
    scale = image.mean((0, 2, 3))
    assert_close(combiner(image), combiner.combiner(image / scale[:, None, None]))
    assert_close(combiner.scale, scale)


def test_reduced_losses_have_a_scale_too():
    combiner = make()
    assert_close(combiner(tensor(3.0, 5.0)), tensor(2.0)[0])
    assert_close(combiner.scale, tensor(3.0, 5.0))


def test_weights_at_is_in_units_of_the_losses():
    combiner = make(Linear(2, main=0), scale=[2.0, 100.0])
    assert_close(combiner.weights_at(FIRST), tensor(2 / 2, 1 / 100))


def test_wrappers_can_be_wrapped():
    combiner = make(Standardized(Linear(2), scale=[2.0, 100.0]), scale=2.0)
    assert_close(combiner(FIRST), tensor(1.5)[0])


def test_functional_calls_update_the_buffers_they_are_given():
    combiner = make(mode="running")
    state = {k: v.clone() for k, v in combiner.state_dict().items()}
    functional_call(combiner, state, (FIRST,))
    assert combiner.batches == 0
    assert state["batches"] == 1
    assert_close(state["scale"], tensor(2.0, 200.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "first"}, "`mode` must be one of 'initial', 'running'"),
        ({"momentum": 1.0}, "`momentum` must be at least 0 and below 1"),
        ({"momentum": -0.1}, "`momentum`"),
        ({"minimum": 0.0}, "`minimum` must be finite and above 0"),
        ({"scale": [1.0, 0.0]}, r"`scale` must be above 0, to divide by it\. For loss 1 it is 0"),
        ({"scale": [torch.nan, 1.0]}, "For loss 0 it is nan"),
        ({"scale": [1.0, 1.0, 1.0]}, r"one for each of the 2 losses\. Its shape is \(3,\)"),
    ],
)
def test_refuses_wrong_arguments(options, message):
    with pytest.raises(InputError, match=message):
        Standardized(Linear(2), **options)


def test_refuses_what_is_no_combiner():
    with pytest.raises(InputError, match=r"`combiner` must be a `LossCombiner`\. It is a `Linear`"):
        Standardized(torch.nn.Linear(2, 1))


def test_says_what_it_is():
    assert "mode='running', momentum=0.9, minimum=1e-08" in repr(make(mode="running", momentum=0.9))
