"""Convolutions on the graph of nearest neighbours, for clouds of points."""

from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

SLOPE = 0.2  # of LeakyReLU below zero, in all of DGCNN


def nearest(features: Tensor, neighbours: int) -> Tensor:
    """Find the nearest points of each point, which is one of them.

    Args:
        features: Shape (B, C, P).
        neighbours: How many, k.

    Returns:
        Their indices, shape (B, P, k).
    """
    with torch.no_grad():
        points = features.transpose(1, 2)
        return torch.cdist(points, points).topk(neighbours, largest=False).indices


@final
class EdgeConv(nn.Module):
    r"""The largest, over the neighbours :math:`j` of each point :math:`i`, of a network of :math:`(x_j - x_i, x_i)`.

    The first layer is linear, so that its product is computed once a point, not once a neighbour:
    :math:`A (x_j - x_i) + B x_i = A x_j + (B - A) x_i`.

    Args:
        inputs: The channels of a point.
        widths: The channels of the layers, each with BatchNorm and LeakyReLU.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.edges = nn.Conv1d(2 * inputs, widths[0], 1, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.LeakyReLU(SLOPE)]
        for below, width in pairwise(widths):
            layers += [nn.Conv2d(below, width, 1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(SLOPE)]
        self.rest = nn.Sequential(*layers)

    def forward(self, features: Tensor, index: Tensor) -> Tensor:
        """Compute the features of the next layer.

        Args:
            features: Shape (B, inputs, P).
            index: The neighbours, shape (B, P, k).

        Returns:
            Shape (B, widths[-1], P).
        """
        difference, own = self.edges.weight.squeeze(-1).chunk(2, 1)
        far = difference @ features  # (B, C, P)
        near = own @ features - far
        at = index.flatten(1)[:, None].expand(-1, far.shape[1], -1)
        edges = far.gather(2, at).reshape(*far.shape, -1) + near[..., None]  # (B, C, P, k)
        return self.rest(edges).max(-1).values
