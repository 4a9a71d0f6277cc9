"""The door of all combiners: shapes, values, the main loss, and how weights are read."""

import pytest
import torch
from torch.testing import assert_close

from auxilearn.combiners import MLP, Conv, DeepLinear, Linear, LossCombiner
from auxilearn.errors import InputError
from support import DEVICE, DTYPE


class Squared(LossCombiner):
    """Σ_k ℓ̄_k², without a parameter."""

    def _combine(self, losses, /):
        means = losses if losses.ndim == 1 else losses.mean(0)
        return means.square().sum()


def ones(*shape, **options):
    return torch.ones(shape, device=DEVICE, dtype=DTYPE, **options)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([torch.tensor(1.0)] * 3, r"tensor \(K,\) or \(B, K\) with K = 3\. It is a `list`\. Join .*torch\.stack"),
        (torch.ones(4, 3, dtype=torch.long), r"dtype is torch\.int64"),
        (torch.ones(()), r"shape is \(\)\. Keep the axis"),
        (torch.ones(4, 3, 2), r"shape is \(4, 3, 2\)"),
        (torch.ones(4, 3, 2, 2), r"shape is \(4, 3, 2, 2\)"),
        (torch.ones(4, 2), r"shape is \(4, 2\), which holds 2 losses\. Pass as many"),
        (torch.ones(3, 4), r"holds 4 losses\. Transpose it"),
        (torch.ones(2), r"shape is \(2,\), which holds 2 losses"),
        (torch.ones(0, 3), r"shape is \(0, 3\), which is empty"),
    ],
)
@pytest.mark.parametrize("combiner", [Squared(3), MLP(3)])
def test_refuses_what_is_no_tensor_of_losses(combiner, losses, message):
    with pytest.raises(InputError, match=message):
        combiner(losses)


@pytest.mark.parametrize("shape", [(3,), (4, 3)])
def test_conv_refuses_what_is_no_image(shape):
    with pytest.raises(InputError, match=r"tensor \(B, K, H, W\) with K = 3"):
        Conv(3)(torch.ones(shape))


def test_own_layouts_are_named():
    class Tokens(LossCombiner):
        def _combine(self, losses, /):
            return losses.mean()

    assert Tokens(2, ndims=(3,))(torch.ones(4, 2, 5)) == 1
    with pytest.raises(InputError, match="tensor with 3 dimensions with K = 2"):
        Tokens(2, ndims=(3,))(torch.ones(4, 2))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        ((1, 0), float("nan"), "Loss 0 is nan in 1 of 4 values"),
        ((slice(None), 2), float("inf"), "Loss 2 is inf in 4 of 4 values"),
        ((0, slice(1, 3)), -float("inf"), "Loss 1 is -inf in 1 of 4 values; loss 2 is -inf in 1 of 4 values"),
    ],
)
def test_names_the_loss_that_is_not_finite(position, value, message):
    losses = ones(4, 3)
    losses[position] = value
    with pytest.raises(InputError, match=message):
        Linear(3).to(DEVICE, DTYPE)(losses)


def test_names_the_loss_of_images_and_of_means():
    image = ones(2, 3, 4, 5)
    image[1, 2, 3, 4] = torch.nan
    with pytest.raises(InputError, match="Loss 2 is nan in 1 of 40 values"):
        Conv(3).to(DEVICE, DTYPE)(image)
    with pytest.raises(InputError, match="Loss 1 is inf in 1 of 1 values"):
        Linear(2).to(DEVICE, DTYPE)(torch.tensor([1.0, torch.inf], device=DEVICE))


def test_names_at_most_five_losses():
    with pytest.raises(InputError, match=r"loss 4 is nan in 1 of 1 values; and 2 more losses\. Look"):
        Linear(7)(torch.full((7,), torch.nan))


def test_looking_at_values_can_be_turned_off():
    assert Linear(2, check_finite=False)(torch.tensor([1.0, torch.inf])).isinf()


def test_other_errors_of_the_device_are_passed_on(monkeypatch):
    def fail(_):
        raise RuntimeError("device lost")

    monkeypatch.setattr(torch, "isfinite", fail)
    with pytest.raises(RuntimeError, match="device lost"):
        Linear(2)(torch.ones(2))


def test_values_are_not_looked_at_while_compiling():
    compiled = torch.compile(Linear(2), backend="eager", fullgraph=True)
    assert compiled(torch.ones(4, 2)) == 2


@pytest.mark.parametrize("num_losses", [0, -1, 2.0, True, "3"])
@pytest.mark.parametrize("build", [Squared, Linear, DeepLinear, MLP, Conv])
def test_refuses_a_wrong_number_of_losses(build, num_losses):
    with pytest.raises(InputError, match="`num_losses` must be an integer of at least 1"):
        build(num_losses)


@pytest.mark.parametrize("main", [-1, 3, 1.0, True])
@pytest.mark.parametrize("build", [Squared, Linear, DeepLinear, MLP, Conv])
def test_refuses_a_wrong_main_loss(build, main):
    with pytest.raises(InputError, match=rf"`main` must .* from 0 to 2\. It is {main}\. Count from 0"):
        build(3, main=main)


@pytest.mark.parametrize("hidden", [(), (0,), (4, -1), 4, "8", (2.0,), None])
def test_refuses_wrong_widths(hidden):
    for build in (DeepLinear, MLP):
        with pytest.raises(InputError, match="`hidden"):
            build(3, hidden=hidden)
    with pytest.raises(InputError, match="`channels"):
        Conv(3, channels=hidden)


@pytest.mark.parametrize("shape", [(2,), (5, 2)])
def test_main_loss_is_the_mean_over_samples(shape):
    losses = torch.arange(1.0, 1.0 + torch.Size(shape).numel(), device=DEVICE, dtype=DTYPE).view(shape)
    main = losses[..., 1].mean()
    assert_close(Squared(2, main=1)(losses), Squared(2)(losses) + main)


def test_weights_at_is_the_derivative_summed_over_samples():
    losses = torch.tensor([[1.0, 2.0], [3.0, 6.0]], device=DEVICE, dtype=DTYPE)
    combiner = Squared(2, main=0)
    with torch.no_grad():  # as in a logging function
        found = combiner.weights_at(losses)
    assert_close(found, 2 * losses.mean(0) + torch.tensor([1.0, 0.0], device=DEVICE, dtype=DTYPE))
    assert not found.requires_grad
    assert_close(combiner.weights_at(losses.mean(0)), found)


def test_an_incomplete_combiner_cannot_be_built():
    with pytest.raises(TypeError, match="_combine"):
        LossCombiner(2)
