"""Products in float16, whose range is narrow: the vector travels at a size in the middle of it."""

import math

import torch

from auxilearn._vectors import Vector, agreeing, is_distributed


def centred(v: Vector, /) -> float:
    r"""Return the power of two by which a vector is multiplied before a product that passes through float16.

    float16 holds numbers from 6e-8 to 65504, and a loss scale acts on what comes from the loss, not on the vector: a
    small one, e.g. the slope of a small outer loss, would silently count as zero. A product is linear, so the factor is
    divided out of it.

    Args:
        v: The vector.

    Returns:
        The factor, which makes the root mean square of the entries about 1/16, far from both ends; 1 for a vector that
        is zero or not finite.
    """
    # Copies are multiplied rank by rank, shards are parts of one product.
    if any(map(is_distributed, v)):
        size = float(v.norm())
    else:
        with agreeing(None):
            size = float(v.norm())
    if not math.isfinite(size) or size == 0.0:
        return 1.0
    entries = sum(t.numel() for t in v)
    exponent = -4 - round(math.log2(size / math.sqrt(entries)))
    # The factor and its inverse must be numbers of the vector's own type.
    limit = -math.log2(torch.finfo(v.tensors[0].dtype).tiny) - 1
    return 2.0 ** max(-limit, min(limit, exponent))
