"""Folds and held-out samples are as even in every class as can be."""

import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.training._folds import folds_of, held_out

LABELS = torch.tensor([0] * 10 + [1] * 7 + [2] * 13)


def test_folds_are_even_within_each_class() -> None:
    fold = folds_of(LABELS, 30, 5, seed=0)
    assert fold.bincount().tolist() == [6] * 5
    for c in range(3):
        counts = fold[c == LABELS].bincount(minlength=5)
        assert int(counts.max() - counts.min()) <= 1


def test_folds_without_classes_are_even_and_follow_the_seed() -> None:
    fold = folds_of(None, 23, 4, seed=1)
    assert sorted(fold.bincount().tolist()) == [5, 6, 6, 6]
    assert torch.equal(fold, folds_of(None, 23, 4, seed=1))
    assert not torch.equal(fold, folds_of(None, 23, 4, seed=2))


def test_every_fold_must_hold_a_label() -> None:
    assert folds_of(None, 3, 3, seed=0).sort().values.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"There are 3 labels for 4 folds\. Use fewer folds"):
        folds_of(None, 3, 4, seed=0)


@pytest.mark.parametrize("share", [0.1, 0.2, 1 / 3, 0.5, 0.8])
def test_the_share_is_held_out_evenly(share: float) -> None:
    held = held_out(LABELS, 30, share, seed=0)
    assert len(held) == int(30 * share + 1e-6)
    assert len(held.unique()) == len(held)
    for part in (held, held[::2], held[1::2]):
        counts = LABELS[part].bincount(minlength=3)
        assert all(abs(int(counts[c]) - len(part) * n / 30) <= 1.5 for c, n in enumerate([10, 7, 13]))
    assert len(held_out(None, 30, share, seed=0)) == len(held)
