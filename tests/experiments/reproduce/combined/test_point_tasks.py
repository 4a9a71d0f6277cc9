import math

import numpy
import pytest
import torch
from torch import Tensor, nn

from auxilearn.experiments.reproduce.combined._point_tasks import (
    SIDE,
    PointLosses,
    chamfer,
    deformed,
    normal_losses,
    part_losses,
    rearranged,
)
from auxilearn.experiments.reproduce.combined._row_noise import RowNoise

PARTS_OF = ((0, 1), (2, 3, 4))


class PointNet(nn.Module):
    """The smallest network that meets the contract: a layer a point, the maximum over the cloud, a layer a head."""

    def __init__(self, outputs: tuple[int, ...], categories: int) -> None:
        super().__init__()
        self.categories = categories
        self.body = nn.Linear(3, 8)
        self.heads = nn.ModuleList(nn.Linear(16 + categories, n) for n in outputs)

    def forward(self, points: Tensor, categories: Tensor) -> tuple[Tensor, ...]:
        own = self.body(points).tanh()
        whole = torch.cat([own.amax(1), nn.functional.one_hot(categories, self.categories).to(own)], 1)
        features = torch.cat([own, whole[:, None].expand(-1, own.shape[1], -1)], 2)
        return tuple(head(features) for head in self.heads)


@pytest.fixture
def batch() -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    points = torch.rand(4, 40, 3, generator=g) * 1.1 - 0.55
    normals = nn.functional.normalize(torch.randn(4, 40, 3, generator=g), dim=2)
    categories = torch.tensor([0, 1, 1, 0])
    parts = torch.stack([torch.tensor(PARTS_OF[c])[torch.randint(2, (40,), generator=g)] for c in categories.tolist()])
    return points, normals, parts, categories, torch.tensor([3, 0, 9, 4])


def network() -> PointNet:
    torch.manual_seed(0)
    return PointNet(PointLosses(PARTS_OF).outputs, 2)


def test_parts_are_compared_among_those_of_the_category() -> None:
    g = torch.Generator().manual_seed(1)
    logits, parts = torch.randn(2, 6, 5, generator=g), torch.randint(2, 5, (2, 6), generator=g)
    parts[0] = torch.randint(0, 2, (6,), generator=g)
    allowed = torch.tensor([[True, True, False, False, False], [False, False, True, True, True]])
    for i, (found, among) in enumerate(zip(part_losses(logits, parts, allowed), PARTS_OF, strict=True)):
        errors = [
            -math.log(math.exp(logits[i, p, parts[i, p]]) / sum(math.exp(logits[i, p, s]) for s in among))
            for p in range(6)
        ]
        assert float(found) == pytest.approx(sum(errors) / 6, rel=1e-5)


def test_the_sign_and_length_of_a_normal_do_not_matter_and_unknown_ones_do_not_count() -> None:
    g = torch.Generator().manual_seed(2)
    guess = torch.randn(2, 5, 3, generator=g)
    truth = nn.functional.normalize(torch.randn(2, 5, 3, generator=g), dim=2)
    truth[0, 2:] = 0
    truth[1] = 0
    values, known = normal_losses(guess, truth)
    cosines = [float(guess[0, p] @ truth[0, p] / guess[0, p].norm()) for p in range(2)]
    assert float(values[0]) == pytest.approx(sum(1 - c**2 for c in cosines) / 2, rel=1e-5)
    assert known.tolist() == [True, False]
    assert torch.allclose(normal_losses(-3 * guess, truth)[0], values, atol=1e-6)


def test_chamfer_is_that_of_the_plain_loops() -> None:
    g = torch.Generator().manual_seed(3)
    a, b = (torch.randn(3, 7, 3, generator=g) for _ in range(2))
    for one, other, found in zip(a.numpy(), b.numpy(), chamfer(a, b), strict=True):
        there = numpy.mean([min(float(((x - y) ** 2).sum()) for y in other) for x in one])
        back = numpy.mean([min(float(((x - y) ** 2).sum()) for x in one) for y in other])
        assert float(found) == pytest.approx(there + back, rel=1e-5)


def test_a_region_of_nearest_points_collapses_and_nothing_else_moves(batch: tuple[Tensor, ...]) -> None:
    points = batch[0]
    moved, region = deformed(points, RowNoise(batch[4]))
    assert region.shape == (4, 5)
    for shape, new, chosen in zip(points, moved, region, strict=True):
        rest = torch.ones(40, dtype=torch.bool)
        rest[chosen] = False
        assert torch.equal(new[rest], shape[rest])
        # The centre is the region's point to which all others are farther than the region's.
        radii = (shape[chosen][:, None] - shape).norm(dim=2)
        centre = next(c for c, r in zip(chosen, radii, strict=True) if bool((r[chosen].max() <= r[rest]).all()))
        assert float((new[chosen] - shape[centre]).norm(dim=1).max()) < 6 * 0.0317


def test_cells_are_swapped_whole(batch: tuple[Tensor, ...]) -> None:
    points = batch[0]
    swapped, cells = rearranged(points, RowNoise(batch[4]))
    for shape, new, cell in zip(points, swapped, cells, strict=True):
        target: dict[int, int] = {}
        for point, place, number in zip(shape.tolist(), new.tolist(), cell.tolist(), strict=True):
            old = [int((x + 1) / 2 * SIDE) for x in point]
            assert number == (old[0] * SIDE + old[1]) * SIDE + old[2]
            now = [int((x + 1) / 2 * SIDE) for x in place]
            assert target.setdefault(number, (now[0] * SIDE + now[1]) * SIDE + now[2]) == (
                (now[0] * SIDE + now[1]) * SIDE + now[2]
            )
            inside = [(x + 1) / 2 * SIDE - cell for x, cell in zip(point, old, strict=True)]
            assert [(x + 1) / 2 * SIDE - cell for x, cell in zip(place, now, strict=True)] == pytest.approx(
                inside, abs=1e-5
            )
        assert len(set(target.values())) == len(target)


def test_losses_are_a_function_of_weights_and_batch(batch: tuple[Tensor, ...]) -> None:
    model, losses = network(), PointLosses(PARTS_OF)
    values, present = losses(model, batch)
    assert values.shape == (4, 4)
    assert bool(present.all())
    assert torch.equal(values, losses(model, batch)[0])
    order = torch.tensor([2, 0, 3, 1])
    shuffled = losses(model, tuple(tensor[order] for tensor in batch))[0]
    assert torch.allclose(shuffled, values[order], atol=1e-6)


def test_an_unknown_normal_is_masked(batch: tuple[Tensor, ...]) -> None:
    normals = batch[1].clone()
    normals[1] = 0
    _, present = PointLosses(PARTS_OF)(network(), (batch[0], normals, *batch[2:]))
    assert present[:, 1].tolist() == [True, False, True, True]
    assert int((~present).sum()) == 1


def test_every_loss_can_be_differentiated_twice(batch: tuple[Tensor, ...]) -> None:
    model, losses = network().double(), PointLosses(PARTS_OF)
    inputs = (batch[0].double(), batch[1].double(), *batch[2:])
    weights = list(model.parameters())
    g = torch.Generator().manual_seed(4)
    direction = [torch.randn(w.shape, generator=g, dtype=torch.float64) for w in weights]

    def gradient(k: int) -> list[Tensor]:
        loss = losses(model, inputs)[0][:, k].mean()
        found = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
        return [torch.zeros_like(w) if one is None else one for w, one in zip(weights, found, strict=True)]

    def moved(step: float) -> None:
        with torch.no_grad():
            for w, d in zip(weights, direction, strict=True):
                w += step * d

    for k in range(4):
        along = sum((one * d).sum() for one, d in zip(gradient(k), direction, strict=True))
        product = torch.autograd.grad(along, weights, allow_unused=True)
        moved(1e-6)
        ahead = [one.detach() for one in gradient(k)]
        moved(-2e-6)
        behind = [one.detach() for one in gradient(k)]
        moved(1e-6)
        for found, a, b in zip(product, ahead, behind, strict=True):
            wanted = (a - b) / 2e-6
            assert torch.allclose(torch.zeros_like(wanted) if found is None else found, wanted, atol=1e-5, rtol=1e-4)
