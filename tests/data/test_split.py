"""Splits are disjoint, stratified and repeatable."""

import pytest
import torch

from auxilearn.data import few_labels
from auxilearn.errors import InputError

CLASSES = torch.arange(200) % 10


def test_the_parts_are_disjoint_and_complete() -> None:
    split = few_labels(CLASSES, seed=0, per_class=5, pool=100)
    rows = torch.cat([split.main, split.pool, split.test])
    assert sorted(rows.tolist()) == list(range(200))
    assert (len(split.main), len(split.pool), len(split.test)) == (50, 100, 50)


def test_every_fold_has_every_class() -> None:
    split = few_labels(CLASSES, seed=0, per_class=5, pool=100)
    for fold in range(5):
        assert CLASSES[split.main[fold::5]].sort().values.tolist() == list(range(10))


def test_the_seed_decides_and_the_global_state_does_not() -> None:
    before = torch.get_rng_state()
    a, b, c = (few_labels(CLASSES, seed=s, per_class=1, pool=10).main for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("per_class", "pool"), [(21, 0), (5, 150)])
def test_too_few_samples_are_told(per_class: int, pool: int) -> None:
    with pytest.raises(InputError, match="There are 200 in 10 classes"):
        few_labels(CLASSES, seed=0, per_class=per_class, pool=pool)
