"""Opinions about unlabelled images: the few labels, spread along neighbour graphs of eight views of the images."""

import math
from dataclasses import dataclass
from typing import cast, final

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn.data import CLASSES

VIEWS = ("pixels", "blurred", "shifted", "gradients", "principal", "whitened", "filters", "projections")
_NEIGHBOURS = 7
_REACH = 0.99


@final
@dataclass(frozen=True)
class Opinions:
    """What each view says of each image, from all labels and from those outside each fold.

    Attributes:
        pool: From all labels, shape (P, V, 10).
        folds: From the labels outside fold f, shape (F, P, V, 10).
        held: Of each labelled image, from the labels outside its own fold, shape (N, V, 10).
    """

    pool: Tensor
    folds: Tensor
    held: Tensor


def opinions(main_x: Tensor, main_y: Tensor, pool_x: Tensor, *, folds: int, seed: int) -> Opinions:
    r"""Spread the labels along each view's graph.

    .. math:: F = (I - \alpha S)^{-1} Y, \qquad S = D^{-1/2} A D^{-1/2}

    :math:`A` joins each image to its nearest ones. Each class is first brought to the same total, then each image's row
    to 1.

    Args:
        main_x: Shape (N, 14, 14).
        main_y: Shape (N,); label i belongs to fold i modulo ``folds``.
        pool_x: Shape (P, 14, 14).
        folds: The number of folds.
        seed: Of the random filters.

    Returns:
        The opinions.

    References:
        Zhou et al., "Learning with Local and Global Consistency", NeurIPS 2003; class mass normalisation as in Zhu et
        al., ICML 2003.
    """
    n = len(main_y)
    target = functional.one_hot(main_y, CLASSES).float()
    fold = torch.arange(n) % folds
    kept = (fold != torch.arange(folds)[:, None]).float()  # (F, N)
    pool: list[Tensor] = []
    each: list[Tensor] = []
    for distances in views(torch.cat([main_x, pool_x]), seed):
        reach = spread(distances, n)  # (N + P, N)
        pool.append(_normalised(reach[n:] @ target))
        each.append(torch.stack([_normalised(reach @ (target * k[:, None])) for k in kept]))
    by_fold = torch.stack(each, 2)  # (F, N + P, V, 10)
    return Opinions(torch.stack(pool, 1), by_fold[:, n:], by_fold[fold, torch.arange(n)])


def spread(distances: Tensor, sources: int, *, neighbours: int = _NEIGHBOURS, reach: float = _REACH) -> Tensor:
    """Return how much of each of the first images arrives at every image.

    Args:
        distances: Shape (M, M).
        sources: How many of them.
        neighbours: Edges of each image.
        reach: The share that is passed on.

    Returns:
        Shape (M, sources).
    """
    near, index = distances.topk(neighbours + 1, largest=False)
    scale = near[:, -1].clamp_min(1e-6)  # the distance to the last neighbour: each image has its own
    closeness = (-near.square() / (scale[:, None] * scale[index])).exp()
    graph = torch.zeros_like(distances).scatter_(1, index, closeness).fill_diagonal_(0.0)
    graph = torch.maximum(graph, graph.T)
    root = graph.sum(1).sqrt()
    system = torch.eye(len(graph)) - reach * graph / (root[:, None] * root)
    return cast("Tensor", torch.linalg.solve(system, torch.eye(len(graph), sources)))


def views(images: Tensor, seed: int) -> list[Tensor]:
    """Measure the distances of all pairs of images in eight ways.

    Args:
        images: Shape (M, 14, 14).
        seed: Of the random filters.

    Returns:
        A matrix (M, M) for each of ``VIEWS``.
    """
    x = images[:, None]
    centred = images.flatten(1) - images.flatten(1).mean(0)
    left, strength, _ = cast("tuple[Tensor, ...]", torch.linalg.svd(centred, full_matrices=False))
    found = {
        "pixels": _pairs(images),
        "blurred": _pairs(functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)),
        "shifted": _shifted(images),
        "gradients": _pairs(_gradients(x), unit=True),
        "principal": _pairs(left[:, :15] * strength[:15]),
        "whitened": _pairs(left[:, :60]),
        "filters": _pairs(_filters(x, seed), unit=True),
        "projections": _pairs(torch.cat([images.sum(1), images.sum(2)], 1)),
    }
    return [found[name] for name in VIEWS]


def _normalised(mass: Tensor) -> Tensor:
    mass = mass.clamp_min(0.0) + 1e-9  # an image that nothing reaches knows nothing
    mass = mass / mass.sum(0)
    return mass / mass.sum(1, keepdim=True)


def _pairs(features: Tensor, *, unit: bool = False) -> Tensor:
    flat = features.flatten(1)
    flat = functional.normalize(flat) if unit else flat
    return torch.cdist(flat, flat)


def _shifted(images: Tensor) -> Tensor:
    # The least distance over shifts by up to one pixel.
    moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    flat = images.flatten(1)
    least = torch.stack([torch.cdist(flat, images.roll(move, (1, 2)).flatten(1)) for move in moves]).amin(0)
    return torch.minimum(least, least.T)


def _gradients(x: Tensor) -> Tensor:
    # How much of each of eight directions the strokes' edges have, in overlapping cells.
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    angle, size = torch.atan2(down, across), torch.hypot(across, down)
    bins = torch.arange(8).reshape(1, 8, 1, 1) * (2 * math.pi / 8)
    return functional.avg_pool2d(size * (angle - bins).cos().relu() ** 4, 4, 2, padding=1)


def _filters(x: Tensor, seed: int) -> Tensor:
    filters = torch.randn(32, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    filters = filters - filters.mean((2, 3), keepdim=True)
    return functional.max_pool2d(functional.conv2d(x, filters, padding=2).relu(), 4, 3, padding=1)
