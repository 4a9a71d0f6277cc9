import numpy
import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.experiments.reproduce.metrics import allowed_parts, part_scores, predicted_parts

PARTS_OF = ((0, 1), (2, 3, 4), (5,), (6, 7))


def slow(guess: numpy.ndarray, truth: numpy.ndarray, categories: list[int]) -> tuple[float, float]:
    """Compute both means as public evaluation scripts do, shape by shape."""
    of_category: dict[int, list[float]] = {}
    for g, t, category in zip(guess, truth, categories, strict=True):
        ratios = []
        for part in PARTS_OF[category]:
            if not (g == part).any() and not (t == part).any():
                ratios.append(1.0)
            else:
                both, either = numpy.logical_and(g == part, t == part), numpy.logical_or(g == part, t == part)
                ratios.append(both.sum() / either.sum())
        of_category.setdefault(category, []).append(float(numpy.mean(ratios)))
    every = [ratio for ratios in of_category.values() for ratio in ratios]
    return 100 * float(numpy.mean(every)), 100 * float(numpy.mean([numpy.mean(r) for r in of_category.values()]))


def test_scores_are_those_of_the_plain_loop() -> None:
    random = numpy.random.default_rng(0)
    categories = [0, 1, 1, 1, 3, 3, 0, 1]
    guess, truth = (
        numpy.stack([random.choice(PARTS_OF[c][: 1 + random.integers(len(PARTS_OF[c]))], 20) for c in categories])
        for _ in range(2)
    )
    found = part_scores(torch.from_numpy(guess), torch.from_numpy(truth), torch.tensor(categories), PARTS_OF)
    assert (found.instance, found.category) == pytest.approx(slow(guess, truth, categories))
    assert found.instance != found.category


def test_an_absent_part_that_is_not_guessed_counts_one() -> None:
    truth = torch.tensor([[2, 2, 2, 2]])
    assert part_scores(truth, truth, torch.tensor([1]), PARTS_OF).instance == 100
    guess = torch.tensor([[2, 2, 2, 3]])
    assert part_scores(guess, truth, torch.tensor([1]), PARTS_OF).instance == pytest.approx(100 * (0.75 + 0 + 1) / 3)


def test_a_prediction_stays_in_its_category() -> None:
    logits = torch.randn(4, 9, 8, generator=torch.Generator().manual_seed(0))
    categories = torch.tensor([3, 2, 1, 0])
    found = predicted_parts(logits, allowed_parts(PARTS_OF, categories, 8))
    for shape, category, rows in zip(found.tolist(), categories.tolist(), logits, strict=True):
        for part, row in zip(shape, rows, strict=True):
            assert part == max(PARTS_OF[category], key=lambda p: float(row[p]))


@pytest.mark.parametrize(
    ("guess", "truth"),
    [([[0, 2]], [[0, 1]]), ([[0, 1]], [[0, 2]]), ([[0, 9]], [[0, 1]]), ([[0]], [[0, 1]])],
)
def test_what_is_no_part_of_the_category_is_refused(guess: list[list[int]], truth: list[list[int]]) -> None:
    with pytest.raises(InputError):
        part_scores(torch.tensor(guess), torch.tensor(truth), torch.tensor([0]), PARTS_OF)
