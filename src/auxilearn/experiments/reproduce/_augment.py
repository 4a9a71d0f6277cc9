"""Random crops and flips of whole batches, and data sets that draw them anew at every step."""

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from auxilearn._checks import count, explain
from auxilearn.errors import InputError
from auxilearn.experiments.reproduce.generated._task import Augment


class Colours(NamedTuple):
    """What colours from 0 to 1 are standardised by.

    Attributes:
        mean: Of each channel.
        deviation: Of each channel.
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


IMAGENET = Colours((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Of ImageNet, as in the original code, and as torchvision's pretrained networks expect."""
CIFAR = Colours((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
"""Of CIFAR-10's training images."""


@final
@dataclass(frozen=True)
class CropFlip:
    r"""Crop each image at random, mirror half of them, and standardise the colours.

    .. math:: x \mapsto \frac{x / 255 - \mu}{\sigma}

    An :class:`~auxilearn.experiments.reproduce.generated._task.Augment`.

    Attributes:
        crop: The side of the result.
        pad: How many black pixels are added on each side before.
        flip: Whether images are mirrored with probability 1/2.
        colours: :math:`\mu` and :math:`\sigma`.

    Raises:
        InputError: If a size is out of range.

    Example:
        >>> pixels = torch.zeros(2, 3, 40, 40, dtype=torch.uint8)
        >>> tuple(CropFlip(32)(pixels, torch.Generator().manual_seed(0)).shape)
        (2, 3, 32, 32)
    """

    crop: int
    pad: int = 0
    flip: bool = True
    colours: Colours = IMAGENET

    def __post_init__(self) -> None:
        count("crop", self.crop, 1)
        count("pad", self.pad, 0)

    def __call__(self, pixels: Tensor, generator: torch.Generator | None) -> Tensor:
        """Crop, flip and standardise.

        Args:
            pixels: Shape (B, 3, H, W), bytes, on any device.
            generator: The source of random crops and flips, on the CPU; None takes the centre, without flips.

        Returns:
            Shape (B, 3, crop, crop), floats, on the same device.

        Raises:
            InputError: If the images are smaller than the crop.
        """
        if self.pad:
            pixels = functional.pad(pixels, (self.pad,) * 4)
        batch, _, height, width = pixels.shape
        down, right = height - self.crop, width - self.crop
        if min(down, right) < 0:
            rule, finding = (
                f"Images must be at least {self.crop} pixels wide and high.",
                f"They are {height} × {width}.",
            )
            raise InputError(explain(rule, finding, "Read them larger."))
        inside = torch.arange(self.crop)
        if generator is None:
            top, left = down // 2, right // 2
            shown = pixels[:, :, top : top + self.crop, left : left + self.crop]
        else:
            rows = torch.randint(down + 1, (batch, 1), generator=generator) + inside
            columns = torch.randint(right + 1, (batch, 1), generator=generator) + inside
            if self.flip:
                mirrored = torch.rand(batch, 1, generator=generator) < 0.5
                columns = torch.where(mirrored, columns.flip(1), columns)
            device = pixels.device
            which = torch.arange(batch, device=device)[:, None, None]
            cut = pixels[which, :, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
            shown = cut.permute(0, 3, 1, 2).contiguous()
        mean, deviation = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in self.colours)
        return (shown.float() / 255 - mean) / deviation


@final
class FreshViews(Dataset[tuple[Tensor, ...]]):
    """Images with whatever belongs to them; crops and flips are drawn anew whenever rows are taken.

    They come from torch's global random state, which the checkpoints of trainings keep: a run that resumes sees what it
    would have seen.

    Args:
        pixels: Shape (N, 3, H, W), bytes.
        columns: What belongs to each image, shape (N, ...).
        augment: Makes views.
    """

    def __init__(self, pixels: Tensor, *columns: Tensor, augment: Augment) -> None:
        self._pixels, self._columns, self._augment = pixels, columns, augment

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        return tuple(part[0] for part in self.__getitems__([row]))

    def __getitems__(self, rows: list[int]) -> tuple[Tensor, ...]:
        """Take rows together.

        Args:
            rows: Their numbers.

        Returns:
            Views, and the rows of each column.
        """
        chosen = torch.tensor(rows, device=self._pixels.device)
        views = self._augment(self._pixels[chosen], torch.default_generator)
        return views, *(column[chosen.to(column.device)] for column in self._columns)

    def loader(self, batch_size: int) -> "DataLoader[tuple[Tensor, ...]]":
        """Wrap the data set for a :class:`~auxilearn.training.Problem`: what is taken together is a batch as it is.

        Args:
            batch_size: Rows a step, unless the training says otherwise.

        Returns:
            The loader.
        """
        return DataLoader(self, batch_size=batch_size, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> tuple[Tensor, ...]:
    return batch
