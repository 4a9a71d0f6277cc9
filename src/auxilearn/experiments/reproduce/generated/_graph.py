"""Labels that spread along the graph of nearest neighbours, for tens of thousands of images: nothing is N × N."""

from typing import NamedTuple, cast, final

import torch
from torch import Tensor

NEIGHBOURS = 7
REACH = 0.99
_AT_ONCE = 1024
_TOLERANCE = 1e-5
_STEPS = 200


@final
class Graph(NamedTuple):
    """A symmetric graph without loops, normalised by its degrees.

    Attributes:
        matrix: :math:`S = D^{-1/2} A D^{-1/2}`, sparse, shape (M, M).
        edges: How many entries it has.
    """

    matrix: Tensor
    edges: int


def graph_of(features: Tensor, *, neighbours: int = NEIGHBOURS) -> Graph:
    r"""Join each image to its nearest ones.

    .. math:: A_{ij} = \exp\big( -d_{ij}^2 / (d_i d_j) \big)

    wherever one is among the nearest of the other; :math:`d_i` is the distance to the last of them. Distances are
    measured block by block.

    Args:
        features: Shape (M, D).
        neighbours: Edges of each image.

    Returns:
        The graph.
    """
    size = len(features)
    every = torch.arange(size, device=features.device)
    found = [_nearest(features, rows, neighbours) for rows in torch.split(every, _AT_ONCE)]
    near, index = torch.cat([d for d, _ in found]), torch.cat([i for _, i in found])
    scale = near[:, -1].clamp_min(1e-6)  # each image has its own
    closeness = (-near.square() / (scale[:, None] * scale[index])).exp().flatten()
    start, end = every.repeat_interleave(index.shape[1]), index.flatten()
    both = torch.cat([start * size + end, end * size + start])
    pairs, place = cast("tuple[Tensor, Tensor]", torch.unique(both, return_inverse=True))
    weight = closeness.new_zeros(len(pairs)).scatter_reduce_(0, place, closeness.repeat(2), "amax")
    start, end = pairs // size, pairs % size
    root = weight.new_zeros(size).scatter_add_(0, start, weight).sqrt().clamp_min(1e-12)
    ends, weight = torch.stack([start, end]), weight / (root[start] * root[end])
    matrix = torch.sparse_coo_tensor(ends, weight, (size, size), is_coalesced=True, check_invariants=True)
    return Graph(matrix, len(pairs))


def spread_along(graph: Graph, sources: Tensor, *, reach: float = REACH, tolerance: float = _TOLERANCE) -> Tensor:
    r"""Let what is known of some images reach the others.

    .. math:: F = (I - \alpha S)^{-1} Y

    by conjugate gradients, all columns at once.

    Args:
        graph: The graph.
        sources: :math:`Y`, shape (M, K).
        reach: :math:`\alpha`, the share that is passed on.
        tolerance: Of the residual, relative to each column.

    Returns:
        Shape (M, K).

    References:
        Zhou et al., "Learning with Local and Global Consistency", NeurIPS 2003.
    """
    found, rest = torch.zeros_like(sources), sources.clone()
    way, square = rest.clone(), rest.square().sum(0)
    goal = square * tolerance**2
    for _ in range(_STEPS):
        if bool((square <= goal).all()):
            break
        product = way - reach * cast("Tensor", torch.sparse.mm(graph.matrix, way))
        # A column that is done, or empty, stays as it is.
        step = torch.where(square > goal, square / (way * product).sum(0), 0.0)
        found += step * way
        rest -= step * product
        after = rest.square().sum(0)
        way = rest + torch.where(square > goal, after / square, 0.0) * way
        square = torch.where(square > goal, after, square)
    return found


def _nearest(features: Tensor, rows: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    distances = torch.cdist(features[rows], features)
    distances[torch.arange(len(rows), device=rows.device), rows] = torch.inf
    near, index = distances.topk(min(neighbours, len(features) - 1), largest=False)
    return near, index
