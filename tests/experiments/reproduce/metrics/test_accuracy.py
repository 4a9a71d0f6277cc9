import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.experiments.reproduce.metrics._accuracy import top_k


@pytest.mark.parametrize("k", [1, 3, 7, 50])
def test_it_counts_classes_among_the_first(k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, 20, generator=generator)
    classes = torch.randint(20, (300,), generator=generator)
    hits = 0
    for row, label in zip(logits.double().tolist(), classes.tolist(), strict=True):
        ranking = sorted(range(20), key=lambda c: -row[c])
        hits += label in ranking[:k]
    assert top_k(logits, classes, k=k) == pytest.approx(100 * hits / 300, abs=1e-4)


def test_it_is_over_samples_not_over_classes() -> None:
    logits = torch.eye(3)[[0, 0, 0, 0]]
    assert top_k(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(75.0)


def test_no_guess_is_refused() -> None:
    with pytest.raises(InputError, match="`k` must be an integer of at least 1"):
        top_k(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), k=0)
