"""Weights that are positive by parametrisation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from auxilearn.combiners import Positive
from auxilearn.errors import InputError
from support import DEVICE, DTYPE

EXAMPLES = settings(deadline=None, max_examples=50, derandomize=True)

CASES = [("exp", 10.0), ("exp", None), ("softplus", 10.0), ("softplus", None)]


def make(initial, theta=0.0, **options):
    weight = Positive(torch.as_tensor(initial, dtype=torch.float64).to(DEVICE, DTYPE), **options)
    weight.theta.data += theta
    return weight


@pytest.mark.parametrize(("growth", "cap"), CASES)
def test_zero_is_the_initial_weight_to_the_last_bit(growth, cap):
    initial = torch.tensor([1e-3, 0.7, 1.0, 9.9], device=DEVICE, dtype=DTYPE)
    assert torch.equal(Positive(initial, growth=growth, cap=cap)(), initial)


@pytest.mark.parametrize("theta", [-3.0, -0.2, 0.5, 4.0])
def test_formulas(theta):
    def softplus(x):
        return math.log1p(math.exp(x))

    w0, c = 2.0, 8.0
    linear = softplus(theta + math.log(math.e - 1))  # softplus(ln(e - 1)) = 1
    capped = softplus(theta + math.log(w0 / c)) / softplus(math.log(w0 / c))
    expected = {
        ("exp", None): w0 * math.exp(theta),
        ("softplus", None): w0 * linear,
        ("exp", c): w0 * capped / math.sqrt(1 + (capped**2 - 1) * (w0 / c) ** 2),
        ("softplus", c): w0 * linear / math.sqrt(1 + (linear**2 - 1) * (w0 / c) ** 2),
    }
    for (growth, cap), value in expected.items():
        found = make([w0], theta, growth=growth, cap=cap)()
        assert_close(found, torch.tensor([value], device=DEVICE, dtype=DTYPE))


@EXAMPLES
@given(
    theta=st.floats(-1e6, 1e6),
    initial=st.floats(1e-4, 0.999),
    cap=st.floats(1e-2, 1e4),
    growth=st.sampled_from(["exp", "softplus"]),
)
def test_stays_between_zero_and_the_cap(theta, initial, cap, growth):
    weight = Positive(torch.tensor([initial * cap], dtype=torch.float64), growth=growth, cap=cap)
    weight.theta.data.fill_(theta)
    w = weight()
    w.backward()
    assert 0 <= w.item() <= cap * (1 + 1e-12)
    assert weight.theta.grad.isfinite().all()
    if theta > -600:  # e⁻⁶⁰⁰ is still a float64
        assert w.item() > 0
    if -600 < theta < 1e4:
        assert weight.theta.grad.item() > 0


@EXAMPLES
@given(a=st.floats(-100, 100), b=st.floats(-100, 100), growth=st.sampled_from(["exp", "softplus"]))
def test_grows_with_its_parameter(a, b, growth):
    low, high = sorted((a, b))
    weight = Positive(torch.ones(2, dtype=torch.float64), growth=growth, cap=10.0)
    weight.theta.data.copy_(torch.tensor([low, high]))
    first, second = weight().tolist()
    assert first <= second * (1 + 1e-12)


def test_the_cap_is_approached_as_documented():
    # ∂ln w/∂ln r = 1 - (w/c)², against ∂ln r/∂θ of the weight without a cap.
    theta = torch.linspace(-5, 8, 14, dtype=torch.float64, requires_grad=True)
    capped = Positive(torch.ones(14, dtype=torch.float64), growth="softplus", cap=10.0)
    free = Positive(torch.ones(14, dtype=torch.float64), growth="softplus")
    values, rates = [], []
    for weight in (capped, free):
        w = torch.func.functional_call(weight, {"theta": theta}, ())
        values.append(w.detach())
        rates.append(torch.autograd.grad(w.log().sum(), theta)[0])
    assert_close(rates[0] / rates[1], 1 - (values[0] / 10) ** 2)


@pytest.mark.parametrize("growth", ["exp", "softplus"])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9)])
def test_a_weight_pushed_against_its_cap_comes_back(growth, optimizer):
    weight = make([1.0], growth=growth, cap=10.0).double()
    opt = optimizer(weight.parameters(), lr=0.1)

    def push(sign):
        opt.zero_grad()
        (sign * weight()).sum().backward()
        opt.step()

    for _ in range(100):
        push(-1)
    assert weight().item() > 6
    for _ in range(1000):
        push(+1)
    assert weight().item() < 5


@pytest.mark.parametrize(
    ("initial", "options", "message"),
    [
        ([0.0], {}, r"finite, above 0\. They range from 0 to 0"),
        ([1.0, -1.0], {}, "range from -1 to 1"),
        ([torch.nan], {}, "range from nan to nan"),
        ([torch.inf], {}, "range from inf"),
        ([1.0, 10.0], {"cap": 10.0}, "above 0, below 10"),
        ([1.0], {"cap": 0.0}, "`cap` must be finite and above 0"),
        ([1.0], {"cap": math.inf}, "`cap` must be finite"),
        ([1.0], {"growth": "linear"}, "`growth` must be one of 'exp', 'softplus'"),
    ],
)
def test_refuses_a_start_outside(initial, options, message):
    with pytest.raises(InputError, match=message):
        Positive(torch.tensor(initial), **options)


def test_keeps_its_own_copy_of_the_start():
    initial = torch.ones(2)
    weight = Positive(initial)
    initial.zero_()
    assert weight().tolist() == [1.0, 1.0]
    assert "(2,), growth='softplus', cap=None" in repr(weight)
