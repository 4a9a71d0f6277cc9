"""torchvision's ResNets with one linear head for each task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, final

from torch import Tensor, nn

from auxilearn._checks import count, one_of
from auxilearn._extras import require
from auxilearn.models._pretrained import load_published
from auxilearn.models._seeded import divisible, seeded, seeded_heads


@final
class ResNetHeads(nn.Module):
    """A ResNet up to its global average pooling, and a head for each task.

    ReLU writes into new tensors, unlike in torchvision; the values are the same.

    Args:
        outputs: The width of each head.
        seed: The seed of the initial weights; the global random state is not touched. More heads change nothing in
            those before them, nor in the body.
        depth: 18 or 50 layers.
        pretrained: A file with torchvision's weights for this depth, e.g. ``resnet18-f37072fd.pth``; its last layer is
            left out. Without it, torchvision's random weights.
        hidden: The width of a hidden layer with ReLU in each head; without it, heads are linear. The original's code
            for Oxford Pet has 512, on top of the 1000 outputs for ImageNet, which as a linear map of the features add
            nothing to such a head but their own initial weights.

    Raises:
        InputError: If there is no head, a size is below 1, the depth is another one, or the file is not as it should
            be.
        MissingExtraError: If torchvision is not installed.

    Example:
        >>> import torch
        >>> net = ResNetHeads([37, 185], seed=0, depth=18).eval()
        >>> [tuple(y.shape) for y in net(torch.zeros(2, 3, 64, 64))]
        [(2, 37), (2, 185)]

    References:
        He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016.
    """

    def __init__(
        self,
        outputs: Sequence[int],
        *,
        seed: int,
        depth: Literal[18, 50] = 18,
        pretrained: Path | None = None,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        one_of("depth", depth, (18, 50))
        if hidden is not None:
            count("hidden", hidden, 1)
        self.body = resnet_body(seed, f"resnet{depth}", pretrained)
        features = 512 if depth == 18 else 2048
        self.heads = seeded_heads(seed, outputs, lambda n: _head(features, hidden, n))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of every image.

        Args:
            images: Shape (B, 3, H, W).

        Returns:
            One tensor for each head, of shape (B, outputs[k]): raw, without softmax.
        """
        divisible(images, 1)
        features = self.body(images)
        return tuple(head(features) for head in self.heads)


def resnet_body(seed: int, name: str, pretrained: Path | None, **options: Any) -> nn.Module:
    """Build a torchvision ResNet without its last layer.

    Args:
        seed: The network's seed.
        name: The name in ``torchvision.models``.
        pretrained: A file with its weights.
        **options: What torchvision's function takes.

    Returns:
        The body: ``fc`` is the identity, and no ReLU works in place.
    """
    models: Any = require("torchvision.models", extra="reproduce")
    body = seeded(seed, "body", lambda: getattr(models, name)(weights=None, **options))
    body.fc = nn.Identity()
    for part in body.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    if pretrained is not None:
        load_published(body, pretrained)
    return body


def _head(features: int, hidden: int | None, outputs: int) -> nn.Module:
    if hidden is None:
        return nn.Linear(features, outputs)
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
