"""Intervals and p-values against scipy, and against slow obvious counts."""

import itertools
import math

import pytest
import torch

from auxilearn.experiments.harness._statistics import holm, paired, sign_flips, standard_error

scipy_stats = pytest.importorskip("scipy.stats")


def test_the_interval_and_p_are_those_of_the_paired_t_test() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(10, generator=random, dtype=torch.float64).tolist() for _ in range(2))
    found, truth = paired(a, b), scipy_stats.ttest_rel(a, b)
    low, high = truth.confidence_interval(0.95)
    assert found.mean - found.half == pytest.approx(low, rel=1e-12)
    assert found.mean + found.half == pytest.approx(high, rel=1e-12)
    assert found.p == pytest.approx(truth.pvalue, rel=1e-12)
    assert found.error == pytest.approx(found.mean / truth.statistic, rel=1e-12)


def test_beyond_and_below_are_the_sides_of_zero() -> None:
    up, down, none = paired([2.0, 3.0], [1.0, 2.0]), paired([1.0, 2.0], [2.0, 3.0]), paired([1.0, 2.0], [2.0, 1.0])
    assert (up.beyond, up.below) == (True, False)
    assert (down.beyond, down.below) == (False, True)
    assert (none.beyond, none.below) == (False, False)


def test_equal_differences_have_no_t() -> None:
    assert paired([1.0, 2.0], [1.0, 2.0]).p == 1.0
    assert paired([2.0, 3.0], [1.0, 2.0]).p == 0.0
    assert paired([2.0], [1.0]).p == 1.0
    assert math.isinf(paired([2.0], [1.0]).half)
    assert math.isinf(standard_error([1.0]))


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        p = (torch.rand(7, generator=random, dtype=torch.float64) ** 3).tolist()
        rejected: set[int] = set()
        for rank, i in enumerate(sorted(range(7), key=p.__getitem__)):
            if p[i] > 0.05 / (7 - rank):
                break
            rejected.add(i)
        assert {i for i, value in enumerate(holm(p)) if value <= 0.05} == rejected
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_sign_flips_are_counted_exactly_for_few_seeds() -> None:
    values = torch.randn(9, generator=torch.Generator().manual_seed(1), dtype=torch.float64).tolist()
    far = sum(
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) >= abs(sum(values)) - 1e-12
        for signs in itertools.product((-1, 1), repeat=9)
    )
    assert sign_flips(values) == far / 2**9


def test_sign_flips_are_sampled_for_many_seeds() -> None:
    values = (torch.randn(40, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.3).tolist()
    assert sign_flips(values) == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert sign_flips(values) == sign_flips(values)
    assert sign_flips([5.0] * 40) == pytest.approx(1 / 2**13)
