"""The estimate of λ_max: from below, better from call to call."""

import math

import pytest
import torch

from auxilearn import Vector
from auxilearn.solvers._power_iteration import PowerIteration
from support import Matrix, System, generator, geometric


def test_the_estimate_comes_from_below_and_gets_better_with_steps() -> None:
    system = System(geometric(100.0))
    estimates = [PowerIteration().update(system.operator(), system.v, k).largest for k in (1, 2, 4, 8, 100)]
    assert estimates == sorted(estimates)
    assert estimates[-1] == pytest.approx(100.0, rel=1e-3)
    assert max(estimates) <= 100.0 + 1e-9


def test_the_estimate_gets_better_from_call_to_call() -> None:
    system, iteration = System(geometric(100.0)), PowerIteration()
    first = iteration.update(system.operator(), system.v, 3).largest
    for k in range(60):
        last = iteration.update(system.operator(), system.v.randn_like(generator(k)), 3).largest
    assert first < last <= 100.0 + 1e-9
    assert last > 95.0


def test_the_first_call_takes_its_steps_and_later_ones_one() -> None:
    system, iteration = System(geometric(100.0)), PowerIteration()
    H = system.operator()
    for expected in (7, 8, 9):
        iteration.update(H, system.v, 7)
        assert H.products == expected


def test_other_shapes_start_afresh() -> None:
    system, iteration = System(geometric(100.0)), PowerIteration()
    iteration.update(system.operator(), system.v, 7)
    H = system.operator()
    iteration.update(H, Vector([system.v.flat()]), 7)
    assert H.products == 7


def test_a_memory_of_another_data_type_is_converted() -> None:
    system, iteration = System(geometric(100.0)), PowerIteration()
    iteration.update(system.operator(), system.v, 7)
    H = Matrix(system.matrix.float())
    assert iteration.update(H, Vector(t.float() for t in system.v), 7).largest > 0
    assert H.products == 1
    assert all(t.dtype == torch.float32 for t in iteration.state_dict()["vector"])


def test_a_direction_that_earlier_right_hand_sides_lacked_is_found() -> None:
    H, iteration = Matrix(torch.diag(torch.tensor([1.0, 100.0]))), PowerIteration()
    iteration.update(H, Vector([torch.tensor([1.0, 0.0])]), 5)
    for _ in range(5):
        largest = iteration.update(H, Vector([torch.tensor([1.0, 1.0])]), 5).largest
    assert largest == pytest.approx(100.0, rel=1e-2)


def test_the_length_of_the_right_hand_side_does_not_matter() -> None:
    system = System(geometric(100.0))
    estimates = [PowerIteration().update(system.operator(), c * system.v, 3).largest for c in (1e-8, 1.0, 1e8)]
    assert estimates == pytest.approx([estimates[1]] * 3)


@pytest.mark.parametrize("largest", [-100.0, -1.0])
def test_negative_curvature_is_noticed_and_its_size_counts(largest: float) -> None:
    H = Matrix(torch.diag(torch.tensor([largest, 0.5])))
    estimate = PowerIteration().update(H, Vector([torch.ones(2)]), 20)
    assert estimate.negative
    assert estimate.largest == pytest.approx(abs(largest), rel=1e-3)


def test_a_zero_product_gives_zero_and_no_memory() -> None:
    iteration = PowerIteration()
    H = Matrix(torch.zeros(2, 2))
    assert iteration.update(H, Vector([torch.ones(2)]), 5) == (0.0, False)
    assert H.products == 1
    assert iteration.state_dict() == {}


def test_an_operator_that_ends_in_zero_keeps_the_size_it_showed() -> None:
    # [[0, 1], [0, 0]] is not symmetric; it stands for products that underflow.
    H = Matrix(torch.tensor([[0.0, 3.0], [0.0, 0.0]]))
    assert PowerIteration().update(H, Vector([torch.tensor([0.0, 1.0])]), 5).largest == 3.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_products_that_are_not_finite_are_passed_on_and_forgotten(value: float) -> None:
    iteration = PowerIteration()
    assert not math.isfinite(iteration.update(Matrix(torch.full((2, 2), value)), Vector([torch.ones(2)]), 5).largest)
    assert iteration.state_dict() == {}


def test_the_memory_can_be_restored() -> None:
    system, one, other = System(geometric(100.0)), PowerIteration(), PowerIteration()
    one.update(system.operator(), system.v, 3)
    other.load_state_dict(one.state_dict())
    assert one.update(system.operator(), system.v, 3) == other.update(system.operator(), system.v, 3)
    one.load_state_dict({})
    assert one.state_dict() == {}
