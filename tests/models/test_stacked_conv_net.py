"""A stack is the same as separate networks."""

import torch
from torch.nn import functional

from auxilearn.models import StackedConvNet


def test_each_model_is_an_ordinary_network() -> None:
    net = StackedConvNet([3, 4], 2, 12)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    images = torch.randn(5, 2, 14, 14, generator=torch.Generator().manual_seed(0))
    outputs = net(images)
    for seed in range(2):
        for model in range(2):
            m = 2 * seed + model
            h = functional.conv2d(
                images[:, seed : seed + 1], net.conv1[8 * m : 8 * m + 8], net.bias1[8 * m : 8 * m + 8], 2, 2
            ).relu()
            h = functional.conv2d(h, net.conv2[16 * m : 16 * m + 16], net.bias2[16 * m : 16 * m + 16], 2, 1).relu()
            h = (h.flatten(1) @ net.hidden[m] + net.bias3[m]).relu()
            torch.testing.assert_close(outputs[seed, model], h @ net.head[m] + net.bias4[m])


def test_models_of_a_seed_start_alike_and_seeds_differ() -> None:
    outputs = StackedConvNet([0, 1], 3, 10)(torch.ones(2, 2, 14, 14))
    assert torch.allclose(outputs[:, 0], outputs[:, 1], atol=1e-6)
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-3)
