"""Crops of one photograph with depth: segmentation is the main task, depth and normals are auxiliary."""

from dataclasses import dataclass
from functools import lru_cache
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from auxilearn._checks import count, explain
from auxilearn.data import RgbdFrame, rgbd_frame
from auxilearn.errors import InputError
from auxilearn.models import SegNet

_TILE = (24, 32)  # at half of the frame's size, which gives 10 × 10 tiles
_CLASSES = 9
TASKS = ("segmentation", "depth", "normals")


@final
@dataclass(frozen=True)
class Crops:
    """N crops with labels for each pixel.

    Attributes:
        images: Colours around 0, shape (N, 3, H, W).
        classes: Shape (N, H, W).
        depth: In standard deviations around the frame's mean, shape (N, H, W).
        has_depth: Where it is known, shape (N, H, W).
        normals: Unit vectors, shape (N, 3, H, W).
        has_normal: Where they are known, shape (N, H, W).
    """

    images: Tensor
    classes: Tensor
    depth: Tensor
    has_depth: Tensor
    normals: Tensor
    has_normal: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor) -> "Crops":
        return Crops(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@final
@dataclass(frozen=True)
class DenseTask:
    """What a method gets.

    Attributes:
        train: Crops to train on.
        test: Other crops of the same frame.
        seed: The seed of the initial weights.
    """

    train: Crops
    test: Crops
    seed: int

    def new_model(self) -> SegNet:
        """Build the network, the same for every method.

        Returns:
            The network: nine channels for the classes, one for the depth, three for the normals.
        """
        return SegNet(_CLASSES + 4, seed=self.seed)

    @torch.no_grad()
    def score(self, model: nn.Module) -> float:
        """Compute the mean intersection over union on the test crops.

        Args:
            model: A trained network.

        Returns:
            In percent; the mean is over the classes that occur in the test crops.
        """
        guess = model(self.test.images)[:, :_CLASSES].argmax(1)
        return mean_iou(guess, self.test.classes)


@final
@dataclass(frozen=True)
class DenseCrops:
    """Cut the frame into 100 disjoint crops and draw some for training; the rest is the test set.

    Attributes:
        train: How many train.
    """

    train: int = 40

    def __post_init__(self) -> None:
        count("train", self.train, 2)

    def __call__(self, seed: int) -> DenseTask:
        """Make the task of a seed.

        Args:
            seed: The seed.

        Returns:
            The task.

        Raises:
            InputError: If no crop is left for the test.
        """
        crops = _crops()
        if self.train >= len(crops):
            finding = f"There are {len(crops)}, and {self.train} train."
            raise InputError(explain("Some crops must be left for the test.", finding, "Ask for fewer."))
        order = torch.randperm(len(crops), generator=torch.Generator().manual_seed(seed))
        return DenseTask(crops[order[: self.train]], crops[order[self.train :]], seed)


def pixel_losses(model: nn.Module, crops: Crops) -> Tensor:
    """Compute the loss of every task at every pixel.

    Args:
        model: The network.
        crops: B crops.

    Returns:
        Cross entropy of the class, squared errors of the depth and of the normal; 0 where there is no truth. Shape
        (B, 3, H, W).
    """
    logits, depth, normals = torch.split(model(crops.images), [_CLASSES, 1, 3], 1)
    main = functional.cross_entropy(logits, crops.classes, reduction="none")
    depth_error = (depth[:, 0] - crops.depth).square()
    normal_error = (normals - crops.normals).square().sum(1)
    # Without a truth the target is zero, and finite: a product with the mask is exact.
    return torch.stack([main, depth_error * crops.has_depth, normal_error * crops.has_normal], 1)


def mean_iou(guess: Tensor, truth: Tensor) -> float:
    r"""Compute the mean intersection over union of the whole set, not the mean of each image's.

    .. math:: \frac{1}{|C|} \sum_{c \in C} \frac{\#\{g = c,\, t = c\}}{\#\{g = c \text{ or } t = c\}}

    Args:
        guess: Classes, any shape.
        truth: Classes of the same shape; C are those that occur in it.

    Returns:
        In percent.

    Example:
        >>> round(mean_iou(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])), 3)  # 1/2 and 2/3
        58.333
    """
    ratios = [
        int(((guess == c) & (truth == c)).sum()) / int(((guess == c) | (truth == c)).sum())
        for c in range(int(truth.max()) + 1)
        if bool((truth == c).any())
    ]
    return 100 * sum(ratios) / len(ratios)


@lru_cache(maxsize=1)
def _crops() -> Crops:
    frame: RgbdFrame = rgbd_frame()
    half = slice(None, None, 2)
    known = frame.has_depth
    deviation, mean = torch.std_mean(frame.depth[known])
    depth = torch.where(known, (frame.depth - mean) / deviation, torch.zeros_like(frame.depth))
    return Crops(
        _tiles(functional.avg_pool2d(frame.rgb, 2)) * 4 - 2,
        _tiles(frame.classes[half, half]),
        _tiles(depth[half, half]),
        _tiles(known[half, half]),
        _tiles(frame.normals[:, half, half]),
        _tiles(frame.has_normal[half, half]),
    )


def _tiles(image: Tensor) -> Tensor:
    h, w = _TILE
    tiles = image.unfold(-2, h, h).unfold(-2, w, w)  # (..., rows, columns, h, w)
    return tiles.movedim((-4, -3), (0, 1)).flatten(0, 1).contiguous()
