"""What a point cloud teaches without a label: its normals, a region that was deformed, places that were swapped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from auxilearn.experiments.reproduce.combined._row_noise import RowNoise
from auxilearn.experiments.reproduce.metrics import allowed_parts

TASKS = ("parts", "normals", "deformation", "rearrangement")
SIDE = 3
"""Cells along each side of the cube, as in both papers."""

_DEVIATION = 0.001**0.5  # of the noise around a collapsed region: DefRec's code draws with the variance 0.001
_REGION = 8  # a region has one point in so many

PointBatch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Points (B, P, 3), normals (B, P, 3), parts (B, P), categories (B,) and row numbers (B,)."""


@final
@dataclass(frozen=True)
class PointLosses:
    """The four losses of each shape; every one is a mean over the shape's points.

    The network returns, for each point, logits of the parts, a normal, a place, and logits of the cells. It is called
    three times: on the points as they are, with a region deformed, and with cells swapped.

    Attributes:
        parts_of: The parts of each category.
    """

    parts_of: Sequence[Sequence[int]]

    @property
    def outputs(self) -> tuple[int, ...]:
        """The outputs of a network for each point."""
        return 1 + max(part for parts in self.parts_of for part in parts), 3, 3, SIDE**3

    def __call__(self, model: nn.Module, batch: PointBatch) -> tuple[Tensor, Tensor]:
        """Compute them.

        Args:
            model: The network.
            batch: See :data:`PointBatch`.

        Returns:
            The losses (B, 4), in the order of :data:`TASKS`, and the mask of those that exist.
        """
        points, normals, parts, categories, rows = batch
        noise = RowNoise(rows)
        logits, guessed_normals, _, _ = model(points, categories)
        allowed = allowed_parts(self.parts_of, categories, logits.shape[2])
        main = part_losses(logits, parts, allowed)
        normal, has_normal = normal_losses(guessed_normals, normals)
        moved, region = deformed(points, noise)
        deformation = chamfer(picked(model(moved, categories)[2], region), picked(points, region))
        swapped, cells = rearranged(points, noise)
        cell_logits = model(swapped, categories)[3]
        rearrangement = functional.cross_entropy(cell_logits.transpose(1, 2), cells, reduction="none").mean(1)
        values = torch.stack([main, normal, deformation, rearrangement], 1)
        present = torch.ones_like(values, dtype=torch.bool)
        return values, torch.stack([present[:, 0], has_normal, present[:, 2], present[:, 3]], 1)


def part_losses(logits: Tensor, parts: Tensor, allowed: Tensor) -> Tensor:
    r"""Compute the mean cross entropy of the points, among the parts that a shape of the category can have.

    The category is given, and the metric chooses among its parts only; so the loss is that of the same choice.

    .. math:: -\frac{1}{P} \sum_p \log \frac{\exp z_{p t_p}}{\sum_{s \in S_c} \exp z_{ps}}

    Args:
        logits: Shape (B, P, S).
        parts: Shape (B, P), allowed ones.
        allowed: Shape (B, S).

    Returns:
        Shape (B,).

    Example:
        >>> logits, allowed = torch.zeros(1, 5, 4), torch.tensor([[True, True, False, False]])
        >>> part_losses(logits, torch.zeros(1, 5, dtype=torch.long), allowed).exp()
        tensor([2.])
    """
    among = logits.masked_fill(~allowed[:, None], -torch.inf)
    return functional.cross_entropy(among.transpose(1, 2), parts, reduction="none").mean(1)


def normal_losses(guess: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute the mean squared sine between predicted and true normals.

    .. math:: 1 - \cos^2 \angle(\hat n, n)

    The sign is left open: points alone do not say on which side of a surface the inside is.

    Args:
        guess: Shape (B, P, 3), of any length.
        normals: Unit vectors, or 0 where unknown, shape (B, P, 3).

    Returns:
        The mean over the points with a normal, shape (B,), and whether there is any.

    Example:
        >>> down, right = torch.tensor([[[0.0, -2.0, 0.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
        >>> normal_losses(down, down / 2)[0].tolist(), normal_losses(down, right)[0].tolist()
        ([0.0], [1.0])
    """
    known = (normals != 0).any(2)
    error = (1 - functional.cosine_similarity(guess, normals, dim=2).square()) * known
    return error.sum(1) / known.sum(1).clamp(min=1), known.any(1)


def deformed(points: Tensor, noise: RowNoise) -> tuple[Tensor, Tensor]:
    """Let a region collapse onto its centre: an eighth of the points, those nearest to one of them.

    DefRec draws all points within a radius; here their number is fixed, so that every shape loses as many.

    Args:
        points: Shape (B, P, 3).
        noise: The source of randomness.

    Returns:
        The points with the region scattered around its centre, shape (B, P, 3), and which those are, (B, M).

    References:
        Achituve et al., "Self-supervised learning for domain adaptation on point clouds", WACV 2021, §3.
    """
    size, count = points.shape[1], max(1, points.shape[1] // _REGION)
    chosen = (noise.uniform(1, stream=0) * size).long().clamp(max=size - 1)
    centre = picked(points, chosen)
    region = (points - centre).square().sum(2).topk(count, largest=False).indices
    scattered = centre + _DEVIATION * noise.normal(3 * count, stream=1).reshape(-1, count, 3)
    return points.scatter(1, region[..., None].expand(-1, -1, 3), scattered), region


def chamfer(guess: Tensor, truth: Tensor) -> Tensor:
    r"""Compute the symmetric Chamfer distance of two point sets.

    .. math:: \frac{1}{M} \sum_i \min_j \lVert \hat x_i - x_j \rVert^2
        + \frac{1}{M} \sum_j \min_i \lVert \hat x_i - x_j \rVert^2

    Args:
        guess: Shape (B, M, 3).
        truth: Shape (B, M, 3).

    Returns:
        Shape (B,).

    Example:
        >>> chamfer(torch.zeros(1, 2, 3), torch.tensor([[[0.0, 0, 0], [0, 0, 2]]]))
        tensor([2.])
    """
    distances = (guess[:, :, None] - truth[:, None]).square().sum(3)
    return distances.min(2).values.mean(1) + distances.min(1).values.mean(1)


def rearranged(points: Tensor, noise: RowNoise) -> tuple[Tensor, Tensor]:
    """Cut the cube from -1 to 1 into 27 cells and swap them at random, each with the points in it.

    Args:
        points: Shape (B, P, 3).
        noise: The source of randomness.

    Returns:
        The moved points, shape (B, P, 3), and the cell that each came from, (B, P).

    References:
        Sauder and Sievers, "Self-supervised deep learning on point clouds by reconstructing space", NeurIPS 2019.
    """
    places = ((points + 1) / 2 * SIDE).long().clamp(0, SIDE - 1)
    x, y, z = places.unbind(2)
    cells = (x * SIDE + y) * SIDE + z
    order = noise.uniform(SIDE**3, stream=2).argsort(1)
    target = order.gather(1, cells)
    new = torch.stack([target // SIDE**2, target // SIDE % SIDE, target % SIDE], 2)
    return points + (new - places) * (2 / SIDE), cells


def picked(points: Tensor, chosen: Tensor) -> Tensor:
    """Take some points of each shape.

    Args:
        points: Shape (B, P, C).
        chosen: Their numbers, shape (B, M).

    Returns:
        Shape (B, M, C).
    """
    return points.gather(1, chosen[..., None].expand(-1, -1, points.shape[2]))
