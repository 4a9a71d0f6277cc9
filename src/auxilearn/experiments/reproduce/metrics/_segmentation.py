"""How well pixels are classified: over the whole data set, and as mean over images."""

from typing import Any, final

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn._extras import require
from auxilearn.errors import InputError


@final
class Segmentation:
    r"""Intersections over unions, and pixel accuracy; pixels with the label -1 are ignored, but for one metric.

    With :math:`n_{tg}` labelled pixels of class t that are guessed to be g:

    .. math:: \text{IoU}_c = \frac{n_{cc}}{\sum_g n_{cg} + \sum_t n_{tc} - n_{cc}}

    =========================  =================================================================================
    name                       what
    =========================  =================================================================================
    mIoU                       the mean over classes that occur in the truth or in the guess, with counts of the
                               whole data set; as in later work
    pixel accuracy             the share of all labelled pixels that are right
    mIoU, per image            the mean over images of the mean over the classes that occur in the image's truth
                               or guess; MTAN's since October 2019
    mIoU, original             the same, but the union also has the unlabelled pixels that are guessed to be of the
                               class, which lowers it; the paper's, by its published code
    pixel accuracy, original   the mean over images of the share of labelled pixels that are right; the paper's
    =========================  =================================================================================

    Images without a labelled pixel count in none of them. All are in percent.

    Args:
        classes: C.

    Example:
        >>> scores = Segmentation(2)
        >>> scores.update(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, -1]]]))  # guess, truth
        >>> {name: round(value, 1) for name, value in scores.compute().items()}
        {'mIoU': 25.0, 'pixel accuracy': 50.0, 'mIoU, per image': 25.0, 'mIoU, original': 25.0, 'pixel accuracy,
        original': 50.0}

    References:
        https://github.com/AvivNavon/AuxiLearn, ``experiments/nyuv2/metrics.py``; https://github.com/lorenmt/mtan,
        ``im2im_pred/utils.py``.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._confusion = torch.zeros(classes, classes, dtype=torch.int64)
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._images = 0

    def update(self, guess: Tensor, truth: Tensor) -> None:
        """Count a batch.

        Args:
            guess: Classes from 0, shape (B, H, W).
            truth: Classes from 0, or -1, the same shape.

        Raises:
            InputError: If the shapes differ, or a class is out of range.
        """
        guess, truth = guess.long(), truth.long()
        _check(guess, truth, self._classes)
        metrics: Any = require("torchmetrics.functional.classification", extra="reproduce")
        for one, its in zip(guess, truth, strict=True):
            if not bool((its >= 0).any()):
                continue
            found: Tensor = metrics.multiclass_confusion_matrix(
                one, its, self._classes, ignore_index=-1, validate_args=False
            )
            confusion = found.cpu()
            beyond = torch.bincount(one[its < 0], minlength=self._classes).cpu()
            right = confusion.diagonal().sum() / confusion.sum()
            self._sums += torch.stack([_mean_iou(confusion), _mean_iou(confusion, beyond), right]).double()
            self._confusion += confusion
            self._images += 1

    def compute(self) -> dict[str, float]:
        """Return the metrics.

        Returns:
            Percentages by name.

        Raises:
            InputError: If there was no labelled pixel.
        """
        if not self._images:
            rule = "A segmentation must be measured on labelled pixels."
            raise InputError(explain(rule, "There are none.", "Check the labels; -1 is unlabelled."))
        per_image, original, accuracy = (100 * float(value) / self._images for value in self._sums)
        return {
            "mIoU": 100 * float(_mean_iou(self._confusion)),
            "pixel accuracy": 100 * float(self._confusion.diagonal().sum() / self._confusion.sum()),
            "mIoU, per image": per_image,
            "mIoU, original": original,
            "pixel accuracy, original": accuracy,
        }


def _mean_iou(confusion: Tensor, beyond: Tensor | None = None) -> Tensor:
    counts = confusion.double()
    hits = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hits
    union = union if beyond is None else union + beyond
    return (hits[union > 0] / union[union > 0]).mean()


def _check(guess: Tensor, truth: Tensor, classes: int) -> None:
    rule = f"Guess and truth must have one shape, with classes from 0 to {classes - 1}, and -1 in the truth."
    if guess.shape != truth.shape or guess.dim() != 3:
        finding = f"The shapes are {tuple(guess.shape)} and {tuple(truth.shape)}."
        raise InputError(explain(rule, finding, "Pass (B, H, W), the logits' `argmax(1)`."))
    for name, given, low in (("guess", guess, 0), ("truth", truth, -1)):
        if given.numel() and not low <= int(given.min()) <= int(given.max()) < classes:
            finding = f"The {name} goes from {int(given.min())} to {int(given.max())}."
            raise InputError(explain(rule, finding, "Check the number of classes."))
