"""A network for clouds of points, with outputs for each point."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from auxilearn._checks import count, explain
from auxilearn.errors import InputError
from auxilearn.models._edge_conv import SLOPE, EdgeConv, nearest
from auxilearn.models._seeded import seeded, seeded_heads, sizes


@final
class PointHeads(nn.Module):
    """DGCNN as for part segmentation: graphs of neighbours in space, then among features; a head for each task.

    The cloud is first turned by a learned 3 × 3 matrix. Three graph convolutions give the features of a point; their
    maximum over the cloud, its category and the features of the point enter the heads. With the default widths, 16
    categories and one head of 50 parts it has the published network's 1 460 361 weights.

    Args:
        outputs: The channels of each head.
        seed: The seed of the initial weights; the global random state is not touched. More heads change nothing in
            those before them, nor in the body.
        categories: How many kinds of objects there are.
        neighbours: How many points a point's neighbourhood has, itself included.
        widths: The channels of a point's features, and those of the whole cloud, divisible by 8. The other layers
            follow in the published proportions.

    Raises:
        InputError: If there is no head, a size is below 1, or the second width is not divisible by 8.

    Example:
        >>> import torch
        >>> net = PointHeads([50, 3], seed=0, categories=16, neighbours=4, widths=(8, 16))
        >>> [tuple(y.shape) for y in net(torch.rand(2, 32, 3), torch.tensor([0, 15]))]
        [(2, 32, 50), (2, 32, 3)]

    References:
        Wang, Sun, Liu, Sarma, Bronstein, Solomon, "Dynamic graph CNN for learning on point clouds", ACM TOG 2019. Which
        layers the tasks share is our choice: all below the four layers that see a point and the whole cloud.
    """

    def __init__(
        self,
        outputs: Sequence[int],
        *,
        seed: int,
        categories: int,
        neighbours: int = 20,
        widths: tuple[int, int] = (64, 1024),
    ) -> None:
        super().__init__()
        count("categories", categories, 1)
        count("neighbours", neighbours, 1)
        sizes("widths", widths)
        point, cloud = widths
        if cloud % 8:
            rule = (
                "The second of `widths` must be divisible by 8, for a head's layers have a quarter and an eighth of it."
            )
            raise InputError(explain(rule, f"It is {cloud}.", "Choose 1024, or 16 for a small network."))
        self.neighbours, self.categories = neighbours, categories
        self.body = seeded(seed, "body", lambda: _Body(point, cloud, categories))
        self.heads = seeded_heads(seed, outputs, lambda n: _head(cloud + 4 * point, cloud, n))

    def forward(self, points: Tensor, categories: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of every point.

        Args:
            points: Shape (B, P, 3), at least as many points as neighbours. In training, at least two clouds.
            categories: The kind of each object, integers of shape (B,).

        Returns:
            One tensor for each head, of shape (B, P, outputs[k]): raw, without softmax.

        Raises:
            InputError: If the shapes do not fit, there are too few points or clouds, or a category does not exist.
        """
        self._check(points, categories)
        kinds = functional.one_hot(categories.long(), self.categories).to(points.dtype)
        features = self.body(points.transpose(1, 2), kinds, self.neighbours)
        return tuple(head(features).transpose(1, 2) for head in self.heads)

    def _check(self, points: Tensor, categories: Tensor) -> None:
        if points.dim() != 3 or points.shape[2] != 3 or categories.shape != points.shape[:1]:
            rule = "`points` must have the shape (B, P, 3) and `categories` (B,)."
            finding = f"They are {tuple(points.shape)} and {tuple(categories.shape)}."
            raise InputError(explain(rule, finding, "Stack clouds of equally many points."))
        if points.shape[1] < self.neighbours:
            rule = f"A cloud must have at least {self.neighbours} points, the number of neighbours."
            raise InputError(explain(rule, f"It has {points.shape[1]}.", "Draw more points, or lower `neighbours`."))
        if self.training and len(points) < 2:
            rule = "In training, a batch must have at least two clouds, for BatchNorm averages over them."
            raise InputError(explain(rule, f"It has {len(points)}.", "Enlarge it, or call `eval()`."))
        if bool(((categories < 0) | (categories >= self.categories)).any()):
            rule = f"`categories` must be from 0 to {self.categories - 1}."
            finding = f"They reach from {int(categories.min())} to {int(categories.max())}."
            raise InputError(explain(rule, finding, "Number the kinds of objects from 0."))


@final
class _Body(nn.Module):
    def __init__(self, point: int, cloud: int, categories: int) -> None:
        super().__init__()
        self.turn = _Turn(point, cloud)
        self.conv1 = EdgeConv(3, (point, point))
        self.conv2 = EdgeConv(point, (point, point))
        self.conv3 = EdgeConv(point, (point,))
        self.cloud = _layer(3 * point, cloud)
        self.category = _layer(categories, point)

    def forward(self, points: Tensor, kinds: Tensor, neighbours: int) -> Tensor:
        points = self.turn(points, nearest(points, neighbours))
        first = self.conv1(points, nearest(points, neighbours))
        second = self.conv2(first, nearest(first, neighbours))
        third = self.conv3(second, nearest(second, neighbours))
        local = torch.cat((first, second, third), 1)  # (B, 3 · point, P)
        whole = torch.cat((self.cloud(local).max(-1, keepdim=True).values, self.category(kinds[..., None])), 1)
        return torch.cat((whole.expand(-1, -1, points.shape[2]), local), 1)  # (B, cloud + 4 · point, P)


@final
class _Turn(nn.Module):
    def __init__(self, point: int, cloud: int) -> None:
        super().__init__()
        self.conv = EdgeConv(3, (point, 2 * point))
        self.cloud = _layer(2 * point, cloud)
        self.hidden = nn.Sequential(_layer(cloud, cloud // 2), _layer(cloud // 2, cloud // 4))
        self.matrix = nn.Linear(cloud // 4, 9)
        nn.init.zeros_(self.matrix.weight)
        with torch.no_grad():
            self.matrix.bias.copy_(torch.eye(3).flatten())  # at first, points stay where they are

    def forward(self, points: Tensor, index: Tensor) -> Tensor:
        whole = self.cloud(self.conv(points, index)).max(-1, keepdim=True).values
        matrix = self.matrix(self.hidden(whole).squeeze(-1)).unflatten(1, (3, 3))
        return matrix.transpose(1, 2) @ points


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(inputs, outputs, 1, bias=False), nn.BatchNorm1d(outputs), nn.LeakyReLU(SLOPE))


def _head(features: int, cloud: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        _layer(features, cloud // 4),
        nn.Dropout(0.5),
        _layer(cloud // 4, cloud // 4),
        nn.Dropout(0.5),
        _layer(cloud // 4, cloud // 8),
        nn.Conv1d(cloud // 8, outputs, 1, bias=False),
    )
