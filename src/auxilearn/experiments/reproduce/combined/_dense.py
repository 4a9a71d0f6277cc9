"""Losses of every pixel, the same for every method: segmentation, depth and, where there are some, normals."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from auxilearn.data.published import DenseImages

TASKS = ("segmentation", "depth", "normals")


def pixel_losses(model: nn.Module, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    r"""Compute the loss of each task at each pixel.

    .. math:: \ell_1 = -\log p(y), \qquad \ell_2 = |\hat d - d|, \qquad
        \ell_3 = 1 - \frac{\hat n \cdot n}{\lVert \hat n \rVert \lVert n \rVert}

    where the pixel has a class, a depth that is not 0, and a normal that is not 0; each truth counts by itself.

    Args:
        model: From images to raw outputs of the tasks, (B, C, H, W), (B, 1, H, W) and, for normals, (B, 3, H, W).
        batch: Images (B, 3, H, W), classes (B, H, W), depth (B, 1, H, W) and, maybe, normals (B, 3, H, W).

    Returns:
        The losses, shape (B, K, H, W), 0 where there is no truth; and where there is one, the same shape.
    """
    images, classes, depth, *normals = batch
    outputs = cast("tuple[Tensor, ...]", model(images))
    # Without a truth cross entropy is 0 by itself; the others are finite, so that a product with the mask is exact.
    losses = [functional.cross_entropy(outputs[0], classes.long(), ignore_index=-1, reduction="none")]
    present = [classes >= 0]
    losses.append((outputs[1] - depth)[:, 0].abs())
    present.append(depth[:, 0] != 0)
    for truth in normals:
        cosine = (functional.normalize(outputs[2], dim=1) * functional.normalize(truth, dim=1)).sum(1)
        losses.append(1 - cosine)
        present.append((truth != 0).any(1))
    mask = torch.stack(present, 1)
    return torch.stack(losses, 1) * mask, mask


def sample_losses(model: nn.Module, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    r"""Average the loss of each task over the pixels of each image that have a truth.

    .. math:: \ell_{ik} = \frac{1}{|P_{ik}|} \sum_{p \in P_{ik}} \ell_{ikp}

    The original averaged its segmentation loss over ignored pixels, too, in its own method, and not in the others.

    Args:
        model: See :func:`pixel_losses`.
        batch: See :func:`pixel_losses`.

    Returns:
        The losses, shape (B, K), 0 where an image has no truth; and which have some, shape (B, K).
    """
    losses, present = pixel_losses(model, batch)
    counts = present.sum((2, 3))
    return losses.sum((2, 3)) / counts.clamp(min=1), counts > 0


def shrunk(data: DenseImages, factor: int) -> DenseImages:
    """Make images smaller, so that a run takes less time.

    Args:
        data: The images.
        factor: By which both sides are divided; what remains at the edge is cut off.

    Returns:
        The images: means of squares of pixels; their truth is that of one of these, so that none is mixed.
    """
    if factor == 1:
        return data
    height, width = (factor * (side // factor) for side in data.images.shape[-2:])
    rows, columns = slice(factor // 2, height, factor), slice(factor // 2, width, factor)
    return DenseImages(
        functional.avg_pool2d(data.images, factor),
        data.classes[..., rows, columns].clone(),
        data.depth[..., rows, columns].clone(),
        None if data.normals is None else data.normals[..., rows, columns].clone(),
        data.names,
    )
