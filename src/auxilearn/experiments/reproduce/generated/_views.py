"""What images look like without a label: features that distances are measured in."""

import math

import torch
from torch import Tensor
from torch.nn import functional

_CELLS = 8
_DIRECTIONS = 8
_AT_ONCE = 1024


def colours(pixels: Tensor) -> Tensor:
    """Average the colours over a grid of cells.

    Args:
        pixels: Bytes, shape (N, 3, H, W).

    Returns:
        Shape (N, 192), from 0 to 1.
    """
    parts = torch.split(pixels, _AT_ONCE)
    return torch.cat([functional.adaptive_avg_pool2d(part.float() / 255, _CELLS).flatten(1) for part in parts])


def gradients(pixels: Tensor) -> Tensor:
    """Measure how much of each direction the edges of each cell have.

    Args:
        pixels: Bytes, shape (N, 3, H, W).

    Returns:
        Shape (N, 512), of length 1: a histogram of eight directions in each of 8 × 8 overlapping cells.

    References:
        In the manner of Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005.
    """
    return torch.cat([_gradients(part) for part in torch.split(pixels, _AT_ONCE)])


def _gradients(pixels: Tensor) -> Tensor:
    side = 4 * _CELLS if pixels.shape[-1] < 8 * _CELLS else 8 * _CELLS
    grey = functional.interpolate(
        pixels.float().mean(1, keepdim=True) / 255, size=side, mode="bilinear", antialias=True, align_corners=False
    )
    padded = functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    # size · max(0, cos)⁴, without an angle.
    size = torch.hypot(across, down).clamp_min(1e-6)
    turns = torch.arange(_DIRECTIONS, device=pixels.device).reshape(1, -1, 1, 1) * (2 * math.pi / _DIRECTIONS)
    along = (across * turns.cos() + down * turns.sin()).relu()
    cell = side // _CELLS
    histograms = functional.avg_pool2d(along.pow(4) / size.pow(3), 2 * cell, cell, padding=cell // 2)
    return functional.normalize(histograms.sqrt().flatten(1))
