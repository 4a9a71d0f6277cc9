"""Segmentation metrics against plain loops, and against the metrics of torchmetrics."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from auxilearn.errors import InputError
from auxilearn.experiments.reproduce.metrics import Segmentation

CLASSES = 5


def drawn(seed: int, images: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(-1, CLASSES - 1, (images, 6, 8), generator=generator)  # the last class never occurs
    noise = torch.randint(0, CLASSES, truth.shape, generator=generator)
    kept = torch.rand(truth.shape, generator=generator) < 0.6
    guess = torch.where(kept & (truth >= 0), truth, noise)
    truth[1] = 2  # one image with one class
    guess[1] = 2
    return guess, truth


def ious(guess: np.ndarray, truth: np.ndarray, *, outside: bool) -> list[float]:
    found = []
    for c in range(CLASSES):
        both = either = 0
        for g, t in zip(guess.ravel(), truth.ravel(), strict=True):
            if t < 0 and not outside:
                continue
            both += int(g == c and t == c)
            either += int(g == c or t == c)
        if either:
            found.append(both / either)
    return found


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_it_is_what_loops_find(seed, batch):
    guess, truth = drawn(seed)
    scores = Segmentation(CLASSES)
    for part in torch.arange(len(guess)).split(batch):
        scores.update(guess[part], truth[part].to(torch.int8))
    found, g, t = scores.compute(), guess.numpy(), truth.numpy()
    assert found["mIoU"] == pytest.approx(100 * np.mean(ious(g, t, outside=False)))
    each = [np.mean(ious(a, b, outside=False)) for a, b in zip(g, t, strict=True)]
    original = [np.mean(ious(a, b, outside=True)) for a, b in zip(g, t, strict=True)]
    assert found["mIoU, per image"] == pytest.approx(100 * np.mean(each))
    assert found["mIoU, original"] == pytest.approx(100 * np.mean(original))
    right = [[a == b for a, b in zip(x.ravel(), y.ravel(), strict=True) if b >= 0] for x, y in zip(g, t, strict=True)]
    assert found["pixel accuracy"] == pytest.approx(100 * np.mean(np.concatenate(right)))
    assert found["pixel accuracy, original"] == pytest.approx(100 * np.mean([np.mean(one) for one in right]))
    assert found["mIoU, original"] < found["mIoU, per image"]


def test_it_agrees_with_torchmetrics():
    guess, truth = drawn(2)
    scores = Segmentation(CLASSES)
    scores.update(guess, truth)
    jaccard = MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=-1)
    accuracy = MulticlassAccuracy(CLASSES, average="micro", ignore_index=-1)
    assert scores.compute()["mIoU"] == pytest.approx(100 * float(jaccard(guess, truth)), rel=1e-5)
    assert scores.compute()["pixel accuracy"] == pytest.approx(100 * float(accuracy(guess, truth)), rel=1e-5)


def test_a_class_that_is_only_guessed_counts_as_wrong():
    scores = Segmentation(3)
    scores.update(torch.tensor([[[0, 2]]]), torch.tensor([[[0, 0]]]))
    assert scores.compute()["mIoU"] == pytest.approx(25.0)  # 1/2 and 0; class 1 occurs nowhere


def test_images_without_labels_count_nothing():
    guess, truth = drawn(3)
    one, other = Segmentation(CLASSES), Segmentation(CLASSES)
    one.update(guess, truth)
    other.update(torch.cat([guess, guess[:2]]), torch.cat([truth, torch.full_like(truth[:2], -1)]))
    assert one.compute() == other.compute()
    with pytest.raises(InputError, match="There are none"):
        Segmentation(CLASSES).compute()


@pytest.mark.parametrize(
    ("guess", "truth"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(2, 3, 5)),
        (torch.zeros(2, 5, 3, 4), torch.zeros(2, 3, 4)),
        (torch.full((1, 2, 2), 5), torch.zeros(1, 2, 2)),
        (torch.full((1, 2, 2), -1), torch.zeros(1, 2, 2)),
        (torch.zeros(1, 2, 2), torch.full((1, 2, 2), 5)),
        (torch.zeros(1, 2, 2), torch.full((1, 2, 2), 255)),
    ],
)
def test_what_cannot_be_counted_is_refused(guess, truth):
    scores = Segmentation(CLASSES)
    with pytest.raises(InputError, match="Guess and truth"):
        scores.update(guess, truth)
    with pytest.raises(InputError, match="There are none"):  # nothing was counted
        scores.compute()


def test_all_right_is_a_hundred():
    _, truth = drawn(4)
    scores = Segmentation(CLASSES)
    scores.update(truth.clamp(min=0), truth)
    found = scores.compute()
    assert found["mIoU"] == found["pixel accuracy"] == 100
    # Unlabelled pixels are guessed to be something all the same, which the original counts against it.
    assert found["mIoU, original"] < 100
    assert not any(math.isnan(value) for value in found.values())
