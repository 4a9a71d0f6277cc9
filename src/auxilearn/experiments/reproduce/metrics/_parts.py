"""Part segmentation: a mean intersection over union for each shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, final

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn.errors import InputError


@final
@dataclass(frozen=True)
class PartScores:
    """The two means that are reported of part segmentation.

    Attributes:
        instance: The mean over all shapes, in percent.
        category: The mean over the categories that occur of the mean over their shapes, in percent.
    """

    instance: float
    category: float


def allowed_parts(parts_of: Sequence[Sequence[int]], categories: Tensor, parts: int) -> Tensor:
    """Say which parts a shape can have: those of its category.

    Args:
        parts_of: The parts of each category.
        categories: The category of each shape, shape (N,).
        parts: How many parts there are in all.

    Returns:
        A mask, shape (N, parts), on the device of ``categories``.

    Example:
        >>> allowed_parts([(0, 1), (2,)], torch.tensor([1, 0]), 3)
        tensor([[False, False,  True],
                [ True,  True, False]])
    """
    table = torch.zeros(len(parts_of), parts, dtype=torch.bool)
    for category, found in enumerate(parts_of):
        table[category, list(found)] = True
    return table.to(categories.device)[categories]


def predicted_parts(logits: Tensor, allowed: Tensor) -> Tensor:
    """Choose the likeliest part of each point among those that its shape can have.

    Args:
        logits: Shape (N, P, parts).
        allowed: Which parts are among them, shape (N, parts).

    Returns:
        Shape (N, P).

    Example:
        >>> predicted_parts(torch.tensor([[[9.0, 1.0, 2.0]]]), torch.tensor([[False, True, True]]))
        tensor([[2]])
    """
    return logits.masked_fill(~allowed[:, None], -torch.inf).argmax(2)


def part_scores(guess: Tensor, truth: Tensor, categories: Tensor, parts_of: Sequence[Sequence[int]]) -> PartScores:
    r"""Compute instance and category mean intersection over union.

    .. math:: \text{IoU}_n = \frac{1}{|S_c|} \sum_{s \in S_c}
        \frac{\#\{p : g_{np} = s,\, t_{np} = s\}}{\#\{p : g_{np} = s \text{ or } t_{np} = s\}}

    with the parts :math:`S_c` of the shape's category. A part that neither the guess nor the truth has counts 1.

    Args:
        guess: The part of each point, shape (N, P), of the shape's category.
        truth: Shape (N, P).
        categories: Shape (N,).
        parts_of: The parts of each category.

    Returns:
        Both means.

    Raises:
        InputError: If shapes differ, there is no shape, or a guess or a truth is no part of the category.

    Example:
        >>> guess, truth = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 1]])
        >>> round(part_scores(guess, truth, torch.tensor([0]), [(0, 1)]).instance, 3)  # 1/2 and 2/3
        58.333

    References:
        Qi et al., "PointNet: deep learning on point sets for 3D classification and segmentation", CVPR 2017, §5.1.
    """
    rule = "Parts must be guessed for every point of at least one shape."
    if guess.shape != truth.shape or guess.dim() != 2 or len(categories) != len(guess) or not guess.numel():
        finding = f"There are {tuple(guess.shape)} guesses, {tuple(truth.shape)} parts, {len(categories)} categories."
        raise InputError(explain(rule, finding, "Pass shapes (N, P), (N, P) and (N,)."))
    parts = 1 + max(part for found in parts_of for part in found)
    allowed = allowed_parts(parts_of, categories, parts)
    ratios = torch.ones(len(guess), parts, dtype=torch.float64, device=guess.device)
    known = torch.zeros(len(guess), dtype=torch.int64, device=guess.device)
    for part in range(parts):  # one mask at a time: all of them would take 50 times the memory
        guessed, true = guess == part, truth == part
        either = (guessed | true).sum(1)
        ratios[:, part] = torch.where(either > 0, (guessed & true).sum(1) / either.clamp(min=1), 1.0)
        known += (guessed.sum(1) + true.sum(1)) * allowed[:, part]
    if not bool((known == 2 * guess.shape[1]).all()):
        rule, finding = "A guess and a truth must be parts of the shape's category.", "Some are not."
        raise InputError(explain(rule, finding, "Restrict the guess, with `predicted_parts`."))
    each = (ratios * allowed).sum(1) / allowed.sum(1)
    present = set(cast("list[int]", categories.tolist()))
    means = torch.stack([each[categories == category].mean() for category in present])
    return PartScores(100 * float(each.mean()), 100 * float(means.mean()))
