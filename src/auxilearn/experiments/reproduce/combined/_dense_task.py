"""The task of NYUv2 and of Cityscapes: networks, splits, validation and metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from auxilearn._checks import count, explain, one_of
from auxilearn.data.published import DenseImages, kept_split
from auxilearn.errors import InputError
from auxilearn.experiments.reproduce._recipe import Published, share
from auxilearn.experiments.reproduce._reproduction import Setup
from auxilearn.experiments.reproduce.combined._dense import TASKS, pixel_losses, sample_losses
from auxilearn.experiments.reproduce.combined._task import CombinedSettings, CombinedTask
from auxilearn.experiments.reproduce.metrics import DepthErrors, NormalErrors, Segmentation
from auxilearn.models import DeepLabHeads, SegNetMTAN, SegNetSplit
from auxilearn.training import Problem

_DEPTH, _NORMALS = 1, 3  # channels


@dataclass(frozen=True)
class DenseSettings(CombinedSettings):
    """What experiments with a truth for each pixel have to settle.

    Attributes:
        network: SegNet with split heads; MTAN's attention on SegNet; or DeepLabV3 on ResNet-50.
        widths: The channels of SegNet's stages; the images' sides are divisible by 2 to the number of stages.
        shrink: By which the sides of the published images are divided.
        validation: The share of the training images that choose the best weights, and train nothing.
        conv_outer_lr: ``outer_lr`` of the convolutional combiner.
        conv_outer_decay: Its ``outer_decay``.
        conv_clip: Its ``clip``.
    """

    network: Literal["segnet", "mtan", "deeplab"]
    widths: tuple[int, ...]
    shrink: int
    validation: float
    conv_outer_lr: float
    conv_outer_decay: float
    conv_clip: float

    @property
    def published_conv(self) -> Published:
        """What the paper's convolutional combiner is learned with."""
        return replace(self, outer_lr=self.conv_outer_lr, outer_decay=self.conv_outer_decay, clip=self.conv_clip)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("network", self.network, ("segnet", "mtan", "deeplab"))
        count("shrink", self.shrink, 1)
        share("validation", self.validation)


@final
class DenseRows(Dataset[tuple[Tensor, ...]]):
    """Some rows of the images, without a copy of them.

    Args:
        data: The images.
        rows: Which, shape (N,).
    """

    def __init__(self, data: DenseImages, rows: Tensor) -> None:
        self._layers = [data.images, data.classes, data.depth]
        if data.normals is not None:
            self._layers.append(data.normals)
        self._rows = [int(row) for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(layer[self._rows[index]] for layer in self._layers)


@final
@dataclass(frozen=True)
class DenseScores:
    """Images to score a network on, a batch at a time; they stay where they are.

    Attributes:
        data: The images.
        rows: Which of them, shape (N,).
        batch: How many pass through the network at once.
    """

    data: DenseImages
    rows: Tensor
    batch: int

    def segmentation(self, model: nn.Module) -> float:
        """Compute the mIoU of the data set, the validation metric.

        Args:
            model: The network, in evaluation mode.

        Returns:
            In percent.
        """
        return self.all(model, only_main=True)["mIoU"]

    @torch.no_grad()
    def all(self, model: nn.Module, *, only_main: bool = False) -> dict[str, float]:
        """Compute every metric.

        Args:
            model: The network, in evaluation mode.
            only_main: Leave depth and normals out.

        Returns:
            Values by the metric's name.
        """
        device = next(model.parameters()).device
        segmentation, depth, normals = Segmentation(len(self.data.names)), DepthErrors(), NormalErrors()
        for start in range(0, len(self.rows), self.batch):
            part = self.data[self.rows[start : start + self.batch]]
            outputs: Sequence[Tensor] = model(part.images.to(device))
            segmentation.update(outputs[0].argmax(1), part.classes.to(device))
            if not only_main:
                depth.update(outputs[1], part.depth.to(device))
                if part.normals is not None:
                    normals.update(outputs[2], part.normals.to(device))
        found = segmentation.compute()
        if not only_main:
            found |= depth.compute()
            found |= {} if self.data.normals is None else normals.compute()
        return found


def dense_task(
    setup: Setup, settings: DenseSettings, train: DenseImages, test: DenseImages, *, name: str
) -> CombinedTask:
    """Make the task: a share of the training images is the validation set, one of the rest the auxiliary set.

    Args:
        setup: The set-up. The images stay on the CPU, and batches go to its device.
        settings: The hyperparameters.
        train: The published training images.
        test: The published test images.
        name: The data set's, for the file of the split.

    Returns:
        The task; its data are the training rows, the auxiliary set last.
    """
    split = _split(setup.splits / f"{name}-{setup.budget}-seed-{setup.seed}.json", settings, train, setup.seed)
    kept = torch.cat([split["train"], split["auxiliary"]])
    validation = DenseScores(train, split["validation"], settings.batch)
    outputs = (len(train.names), _DEPTH) + (() if train.normals is None else (_NORMALS,))
    network = new_network(settings, outputs, seed=setup.seed, pretrained=setup.pretrained)
    return CombinedTask(
        problem=Problem(
            network.to(setup.device), sample_losses, data=DenseRows(train, kept), names=TASKS[: len(outputs)]
        ),
        settings=settings,
        epoch=len(kept),
        seed=setup.seed,
        held_out=torch.arange(len(split["train"]), len(kept)),
        validate=validation.segmentation,
        pixels=pixel_losses,
        test=DenseScores(test, torch.arange(len(test)), settings.batch),
        published_conv=settings.published_conv,
    )


def measure(task: CombinedTask, model: nn.Module) -> Mapping[str, float]:
    """Compute every metric on the test set.

    Args:
        task: The task.
        model: The network, in evaluation mode.

    Returns:
        Values by the metric's name.
    """
    test: Any = task.test
    found: dict[str, float] = test.all(model)
    return found


def new_network(settings: DenseSettings, outputs: Sequence[int], *, seed: int, pretrained: Path | None) -> nn.Module:
    """Build the network.

    Args:
        settings: Which.
        outputs: The channels of each head.
        seed: The seed of the initial weights.
        pretrained: A file with weights of the backbone; None starts at random.

    Returns:
        The network.

    Raises:
        InputError: If there are weights for a network that takes none.
    """
    if settings.network == "deeplab":
        return DeepLabHeads(outputs, seed=seed, backbone="resnet50", pretrained=pretrained)
    if pretrained is not None:
        rule = "Weights of a backbone must be for a network that has one."
        finding = f"`{pretrained}` was given, and SegNet starts at random, as in the paper."
        raise InputError(explain(rule, finding, "Run without --pretrained."))
    kind = SegNetSplit if settings.network == "segnet" else SegNetMTAN
    return kind(outputs, seed=seed, widths=settings.widths)


def _split(file: Path, settings: DenseSettings, data: DenseImages, seed: int) -> dict[str, Tensor]:
    def draw() -> dict[str, Tensor]:
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        validation = max(1, int(settings.validation * len(data)))
        auxiliary = max(1, int(settings.held_out * (len(data) - validation)))
        kept = order[validation:]
        return {"validation": order[:validation], "auxiliary": kept[:auxiliary], "train": kept[auxiliary:]}

    # How many pixels have which class tells images apart.
    return kept_split(file, draw, labels=data.classes.flatten(1).sum(1, dtype=torch.int64))
