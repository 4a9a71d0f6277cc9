"""DeepLabV3 with one head for each task."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, final

from torch import Tensor, nn
from torch.nn import functional

from auxilearn._checks import explain, one_of
from auxilearn._extras import require
from auxilearn.errors import InputError
from auxilearn.models._resnet_heads import resnet_body
from auxilearn.models._seeded import divisible, seeded_heads


@final
class DeepLabHeads(nn.Module):
    """torchvision's DeepLabV3: a dilated ResNet that all tasks share; dilated pooling and convolutions for each task.

    The ResNet reduces the image to an eighth; outputs are enlarged to its size by bilinear interpolation. The heads
    have dropout in training.

    Args:
        outputs: The channels of each head.
        seed: The seed of the initial weights; the global random state is not touched. More heads change nothing in
            those before them, nor in the body.
        backbone: The ResNet.
        pretrained: A file with torchvision's weights of the ResNet, e.g. ``resnet50-0676ba61.pth``; its last layer is
            left out. Without it, torchvision's random weights.

    Raises:
        InputError: If there is no head, a size is below 1, the backbone is another one, or the file is not as it
            should be.
        MissingExtraError: If torchvision is not installed.

    Example:
        >>> import torch
        >>> net = DeepLabHeads([19], seed=0, backbone="resnet50").eval()
        >>> [tuple(y.shape) for y in net(torch.zeros(1, 3, 32, 40))]
        [(1, 19, 32, 40)]

    References:
        Chen, Papandreou, Schroff, Adam, "Rethinking atrous convolution for semantic image segmentation", 2017.
    """

    def __init__(
        self,
        outputs: Sequence[int],
        *,
        seed: int,
        backbone: Literal["resnet50", "resnet101"] = "resnet50",
        pretrained: Path | None = None,
    ) -> None:
        super().__init__()
        one_of("backbone", backbone, ("resnet50", "resnet101"))
        deeplab: Any = require("torchvision.models.segmentation.deeplabv3", extra="reproduce")
        body = resnet_body(seed, backbone, pretrained, replace_stride_with_dilation=[False, True, True])
        kept = takewhile(lambda part: part[0] != "avgpool", body.named_children())
        self.body = nn.Sequential()
        for name, part in kept:
            self.body.add_module(name, part)
        self.heads = seeded_heads(seed, outputs, lambda n: deeplab.DeepLabHead(2048, n))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of every pixel.

        Args:
            images: Shape (B, 3, H, W). In training, at least two images.

        Returns:
            One tensor for each head, of shape (B, outputs[k], H, W): raw, without softmax or normalisation.

        Raises:
            InputError: If the shape does not fit, or a batch of training has one image.
        """
        divisible(images, 1)
        if self.training and len(images) < 2:
            rule = "In training, a batch must have at least two images, for BatchNorm averages over pooled ones."
            raise InputError(explain(rule, f"It has {len(images)}.", "Enlarge it, or call `eval()`."))
        features, size = self.body(images), images.shape[-2:]
        return tuple(
            functional.interpolate(head(features), size=size, mode="bilinear", align_corners=False)
            for head in self.heads
        )
