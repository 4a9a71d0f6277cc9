"""What a model descends: weighted sums in the right units, and combiners that read means or samples."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from auxilearn.combiners import MLP, Linear
from auxilearn.training import Learned
from auxilearn.training._objective import Combined, Moment, Weighted, combiner_inputs
from auxilearn.training._problem import Measured
from auxilearn.training._upper import Upper
from auxilearn.weighting import DWA, Constant, Equal, MainOnly, Step, Weighting
from support import DEVICE, normal

SCALE = torch.tensor([2.0, 4.0, 0.5], dtype=torch.float64)
PRESENT = normal(9, 3, seed=1) > -0.5
PRESENT[0] = torch.tensor([True, False, False])
VALUES = torch.where(PRESENT, normal(1, 9, 3).abs(), 0.0)
MEASURED = Measured(VALUES, PRESENT)
MEANS = torch.stack([VALUES[0, PRESENT[:, k], k].mean() for k in range(3)])


def moment(*, first: bool = True, number: int = 0) -> Moment:
    w = nn.Parameter(torch.ones(2, dtype=torch.float64))
    return Moment((w,), number, 0.1, outer=lambda: w.sum(), again=lambda: MEASURED, first=first)


class Watching(Weighting):
    """Keeps what it was asked and told."""

    def allocate(self) -> None:
        self.steps_seen: list[Step] = []
        self.after_seen: list[Tensor] = []

    def _weigh(self, step: Step, /) -> Tensor:
        self.steps_seen.append(step)
        return torch.arange(1.0, 4.0, dtype=step.losses.dtype)

    def after(self, step: Step, losses: Callable[[], Tensor], /) -> None:
        self.after_seen.append(losses())


def test_a_weighted_sum_in_its_own_units_or_in_initial_values() -> None:
    for normalise in (False, True):
        rule = Watching(normalise=normalise)
        objective = Weighted(rule, SCALE, main=1, steps=5)
        unit = SCALE if normalise else torch.ones(3)
        total = objective.total(MEASURED, moment())
        assert torch.allclose(total, (torch.tensor([1.0, 2.0, 3.0]) * MEANS / unit).sum())
        (step,) = rule.steps_seen
        assert (step.number, step.main, step.learning_rate) == (0, 1, 0.1)
        assert torch.allclose(step.losses, MEANS / unit)
        assert step.outer is not None
        assert float(step.outer().detach()) == 2 / float(unit[1])  # in the units of the losses
        objective.after()
        objective.after()
        (after,) = rule.after_seen
        assert torch.allclose(after, MEANS / unit)
        assert objective.weights.tolist() == [1.0, 2.0, 3.0]


def test_a_rule_is_asked_once_a_step_however_many_batches() -> None:
    rule = Watching()
    objective = Weighted(rule, SCALE, main=0, steps=5)
    totals = [objective.total(MEASURED, moment(first=part == 0)) for part in range(3)]
    objective.after()
    assert len(rule.steps_seen) == len(rule.after_seen) == 1
    assert torch.equal(totals[0], totals[2])


def test_only_main_only_needs_nothing_but_labelled_rows() -> None:
    assert Weighted(MainOnly(), SCALE, main=0, steps=1).main_only
    assert not Weighted(Equal(), SCALE, main=0, steps=1).main_only
    assert not Weighted(Constant([1.0, 0.0, 0.0]), SCALE, main=0, steps=1).main_only


def test_a_weighted_sum_goes_on_where_it_stood() -> None:
    one, other = (Weighted(DWA(epoch=2), SCALE.float(), main=0, steps=9) for _ in range(2))
    small = Measured(VALUES.float(), PRESENT)
    for number in range(5):
        one.total(Measured(small.values / (number + 1), PRESENT), moment(number=number))
        one.after()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.weights, other.weights)
    assert torch.equal(one.total(small, moment(number=5)), other.total(small, moment(number=5)))


def test_combiners_read_means_or_the_samples_that_have_an_auxiliary_loss() -> None:
    main, means = combiner_inputs(MEASURED, SCALE, 1, [0, 2], samples=False)
    assert torch.allclose(main, MEANS[1] / 4)
    assert torch.allclose(means, MEANS[[0, 2]] / SCALE[[0, 2]])
    main, samples = combiner_inputs(MEASURED, SCALE, 0, [1, 2], samples=True)
    having = PRESENT[:, 1:].any(1)
    assert not having[0]
    assert torch.allclose(main, MEANS[0] / 2)
    assert torch.allclose(samples, (VALUES[0] / SCALE)[having][:, 1:])


def combined(combiner: Any, *, learning: bool) -> Combined:
    torch.manual_seed(0)
    found = Upper(Learned(combiner=combiner), 2, 1, DEVICE) if learning else combiner(2)
    return Combined(found, SCALE, main=0)


def test_the_main_loss_keeps_weight_one_and_the_combiner_reads_the_others() -> None:
    for learning in (True, False):
        linear = combined(lambda k: Linear(k, init=[2.0, 3.0]), learning=learning)
        assert linear.weights.tolist() == [1.0, 1.0, 1.0]  # before the first step
        total = linear.total(MEASURED, moment())
        assert torch.allclose(total, (torch.tensor([1.0, 2.0, 3.0]) * MEANS / SCALE).sum())
        assert torch.allclose(linear.weights, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
        assert torch.allclose(
            linear.of(MEASURED, torch.tensor([1.0, 0.0])), (torch.tensor([1.0, 2.0, 0.0]) * MEANS / SCALE).sum()
        )
        assert type(linear.combiner()) is Linear
        mlp = combined(MLP, learning=learning)
        _, samples = combiner_inputs(MEASURED, SCALE, 0, [1, 2], samples=True)
        torch.manual_seed(0)
        assert torch.allclose(mlp.total(MEASURED, moment()), MEANS[0] / 2 + MLP(2)(samples), rtol=1e-5)


def test_a_combined_loss_goes_on_where_it_stood() -> None:
    one, other = (combined(MLP, learning=learning) for learning in (False, False))
    one.total(MEASURED, moment())
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.weights, other.weights)
    fresh = combined(MLP, learning=True)
    fresh.load_state_dict(combined(MLP, learning=True).state_dict())
    assert fresh.weights.tolist() == [1.0, 1.0, 1.0]
