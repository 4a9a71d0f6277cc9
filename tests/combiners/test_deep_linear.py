"""A weight for each loss as a product."""

import pytest
import torch
from torch.testing import assert_close

from auxilearn.combiners import DeepLinear
from support import DEVICE, DTYPE


@pytest.mark.parametrize("hidden", [(1,), (8,), (5, 2, 4)])
@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 3, 5, 2)])
def test_is_a_linear_combiner_with_the_product_as_weights(hidden, shape):
    combiner = DeepLinear(3, hidden=hidden, main=1).to(DEVICE, DTYPE)
    assert_close(
        combiner.weights, torch.ones_like(combiner.weights), rtol=1e-2 if DTYPE.itemsize < 4 else 1e-5, atol=0.0
    )
    for p in combiner.parameters():
        p.data += 0.3 * torch.randn_like(p)
    losses = torch.rand(shape, device=DEVICE, dtype=DTYPE)
    means = losses if losses.ndim == 1 else losses.movedim(1, 0).flatten(1).mean(1)
    product = combiner.head()
    for layer in reversed(combiner.layers):
        product = product @ layer()
    assert_close(combiner.weights, product.detach())
    assert_close(combiner(losses), product @ means + means[1])
    assert not combiner.weights.requires_grad
