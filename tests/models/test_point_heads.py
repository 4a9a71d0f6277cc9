"""The graph network of points: its neighbours, its edges, its symmetries, its published size."""

import pytest
import torch
from torch.nn.functional import leaky_relu

from auxilearn.errors import InputError
from auxilearn.models import PointHeads
from auxilearn.models._edge_conv import EdgeConv, nearest
from support import normal


def tiny(outputs: list[int], *, neighbours: int = 3) -> PointHeads:
    return PointHeads(outputs, seed=0, categories=4, neighbours=neighbours, widths=(3, 8)).double()


def test_it_has_as_many_weights_as_the_published_network() -> None:
    turn = 6 * 64 + 64 * 128 + 128 * 1024 + 1024 * 512 + 512 * 256 + (256 + 1) * 9
    turn_norms = 2 * (64 + 128 + 1024 + 512 + 256)
    graph = 6 * 64 + 64 * 64 + 128 * 64 + 64 * 64 + 128 * 64 + 192 * 1024 + 16 * 64
    graph_norms = 2 * (5 * 64 + 1024 + 64)
    head = 1280 * 256 + 256 * 256 + 256 * 128 + 128 * 50 + 2 * (256 + 256 + 128)
    net = PointHeads([50], seed=0, categories=16)
    assert sum(p.numel() for p in net.parameters()) == turn + turn_norms + graph + graph_norms + head


def test_neighbours_are_the_nearest() -> None:
    x = normal(2, 5, 9, dtype=torch.float64)
    found = nearest(x, 4)
    for cloud in range(2):
        for i in range(9):
            distances = [float((x[cloud, :, i] - x[cloud, :, j]).norm()) for j in range(9)]
            assert found[cloud, i].tolist() == sorted(range(9), key=distances.__getitem__)[:4]


def test_an_edge_convolution_is_the_largest_over_the_edges() -> None:
    layer = EdgeConv(2, (3, 4)).double().eval()
    x = normal(2, 2, 6, dtype=torch.float64)
    index = nearest(x, 3)
    found = layer(x, index)
    first, second = layer.edges.weight[..., 0], layer.rest[2].weight[..., 0, 0]
    scale = (1 + layer.rest[0].eps) ** -0.5  # BatchNorm that has seen nothing
    for cloud in range(2):
        for i in range(6):
            rows = []
            for j in index[cloud, i]:
                edge = torch.cat((x[cloud, :, j] - x[cloud, :, i], x[cloud, :, i]))
                rows.append(leaky_relu(scale * (second @ leaky_relu(scale * (first @ edge), 0.2)), 0.2))
            torch.testing.assert_close(found[cloud, :, i], torch.stack(rows).amax(0))


def test_the_order_of_points_does_not_matter_and_the_category_does() -> None:
    net = tiny([2, 5]).eval()
    points, kinds = normal(2, 11, 3, dtype=torch.float64), torch.tensor([1, 3])
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    found, moved, other = net(points, kinds), net(points[:, order], kinds), net(points, torch.tensor([1, 0]))
    assert [y.shape for y in found] == [(2, 11, 2), (2, 11, 5)]
    for before, after, changed in zip(found, moved, other, strict=True):
        torch.testing.assert_close(after, before[:, order])
        assert torch.equal(changed[0], before[0])
        assert (changed[1] != before[1]).any(1).all()


def test_points_stay_where_they_are_at_first_and_the_matrix_turns_rows() -> None:
    turn = tiny([1]).eval().body.turn
    x = normal(2, 3, 5, dtype=torch.float64)
    index = nearest(x, 3)
    torch.testing.assert_close(turn(x, index), x)
    matrix = normal(3, 3, dtype=torch.float64, seed=1)
    with torch.no_grad():
        turn.matrix.bias.copy_(matrix.flatten())
    torch.testing.assert_close(turn(x, index).mT, x.mT @ matrix)


def test_bad_input_is_told() -> None:
    net, points, kinds = tiny([2]), torch.zeros(2, 5, 3).double(), torch.tensor([0, 3])
    for bad, message in [
        ((points[..., :2], kinds), r"They are \(2, 5, 2\) and \(2,\)"),
        ((points, kinds[:1]), r"They are \(2, 5, 3\) and \(1,\)"),
        ((points[:, :2], kinds), "at least 3 points, the number of neighbours. It has 2"),
        ((points[:1], kinds[:1]), "at least two clouds"),
        ((points, kinds + 1), "from 0 to 3. They reach from 1 to 4"),
        ((points, kinds - 1), "They reach from -1 to 2"),
    ]:
        with pytest.raises(InputError, match=message):
            net(*bad)
    for setting in ({"categories": 0}, {"neighbours": 0}, {"widths": (0, 8)}, {"widths": (8, 12)}):
        with pytest.raises(InputError):
            PointHeads([2], seed=0, **{"categories": 2, **setting})
