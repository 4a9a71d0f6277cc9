"""What every network of the paper's experiments has to do: be a function of its seed, and be differentiable twice."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from auxilearn import hypergradient
from auxilearn.errors import InputError
from auxilearn.models import (
    ConvFourHeads,
    DeepLabHeads,
    PointHeads,
    ResNetHeads,
    SegNetMTAN,
    SegNetSplit,
    VGG16Heads,
    WideResNetHeads,
)
from auxilearn.solvers import Neumann

Build = Callable[[Sequence[int], int], nn.Module]


def images(batch: int, side: int, seed: int = 0) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed)),)


NETWORKS: dict[str, tuple[Build, tuple[Tensor, ...]]] = {
    "segnet": (lambda n, s: SegNetSplit(n, seed=s, widths=(2, 3, 4)), images(2, 16)),
    "mtan": (lambda n, s: SegNetMTAN(n, seed=s, widths=(2, 3, 4)), images(2, 16)),
    "resnet": (lambda n, s: ResNetHeads(n, seed=s, depth=18, hidden=3), images(3, 32)),
    "wide": (lambda n, s: WideResNetHeads(n, seed=s, depth=10, widen=1), images(3, 16)),
    "conv4": (lambda n, s: ConvFourHeads(n, seed=s, channels=(3, 4, 3, 4)), images(3, 32)),
    "vgg": (lambda n, s: VGG16Heads(n, seed=s, widths=(2, 3, 4, 5, 6)), images(4, 32)),
    # BatchNorm of one pooled number of each of two images is close to their sign, hence hardly differentiable.
    "deeplab": (lambda n, s: DeepLabHeads(n, seed=s), images(4, 24)),
    "points": (
        lambda n, s: PointHeads(n, seed=s, categories=3, neighbours=4, widths=(4, 8)),
        (torch.randn(3, 12, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2])),
    ),
}
each = pytest.mark.parametrize("name", NETWORKS)


def small_weights(net: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Leave out the largest layers of the largest networks, which take most of the time and are of no other kind."""
    return [(name, w) for name, w in net.named_parameters() if w.numel() <= 100_000]


def in_double(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.double() if x.is_floating_point() else x for x in inputs)


@each
def test_second_derivatives_agree_with_differences_of_gradients(name: str) -> None:
    build, inputs = NETWORKS[name]
    net, inputs = build([2, 3], 0).double().train(), in_double(inputs)
    names, start = zip(*small_weights(net), strict=True)
    draw = torch.Generator().manual_seed(1)
    v = [max(w.detach().abs().mean(), 0.01) * torch.randn(w.shape, generator=draw, dtype=torch.float64) for w in start]

    def gradient(step: float, *, create_graph: bool = False) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        weights = [(w.detach() + step * d).requires_grad_() for w, d in zip(start, v, strict=True)]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(2)  # the same dropout each time
            outputs = functional_call(net, dict(zip(names, weights, strict=True)), inputs)
        # A mean of squares would hardly depend on what BatchNorm normalises last.
        loss = sum(torch.cos(3 * y + k).mean() for k, y in enumerate(outputs))
        return weights, torch.autograd.grad(loss, weights, create_graph=create_graph)

    weights, graph = gradient(0.0, create_graph=True)
    product = torch.autograd.grad(graph, weights, v)
    step = 1e-9  # kinks of ReLU and pooling are seldom that near
    numeric = [(a - b) / (2 * step) for a, b in zip(gradient(step)[1], gradient(-step)[1], strict=True)]
    error = sum((a - b).square().sum() for a, b in zip(product, numeric, strict=True)).sqrt()
    assert error < 1e-4 * sum(b.square().sum() for b in numeric).sqrt()
    assert all(p.isfinite().all() for p in product)
    assert sum(bool(p.any()) for p in product) > len(product) // 2


@each
def test_heads_change_nothing_before_them_nor_the_random_state(name: str) -> None:
    build, _ = NETWORKS[name]
    before = torch.get_rng_state()
    few, many, other = build([4], 0).state_dict(), build([4, 7], 0).state_dict(), build([4], 1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert set(few) < set(many)
    assert all(torch.equal(few[key], many[key]) for key in few)
    drawn = [key for key in few if few[key].dim() > 1 and few[key].any()]
    assert len(drawn) >= 5
    assert not any(torch.equal(few[key], other[key]) for key in drawn)


@each
def test_the_first_head_does_not_start_as_the_second(name: str) -> None:
    first, second = (head.state_dict() for head in NETWORKS[name][0]([4, 4], 0).heads)
    assert any(not torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "deeplab"])  # which would take ten seconds
def test_a_hypergradient_comes_out_finite(name: str) -> None:
    build, inputs = NETWORKS[name]
    net = build([2, 1], 0).train()
    phi = torch.zeros(2, requires_grad=True)
    main, auxiliary = (y.square().mean() for y in net(*inputs))
    train = phi[0].exp() * main + phi[1].exp() * auxiliary
    weights = [w for _, w in small_weights(net)]
    result = hypergradient(
        train, net(*inputs)[0].abs().mean(), params=weights, aux_params=[phi], solver=Neumann(3), on_failure="raise"
    )
    assert result.finite
    assert result.grads[0].abs().min() > 0


@each
def test_without_heads_there_is_no_network(name: str) -> None:
    build, _ = NETWORKS[name]
    with pytest.raises(InputError, match="`outputs` is empty"):
        build([], 0)
    with pytest.raises(InputError, match=r"`outputs\[1\]` must be an integer of at least 1"):
        build([2, 0], 0)
