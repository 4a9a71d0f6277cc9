import math
from collections.abc import Generator
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tiny_generated import digits, task
from torch import Tensor

from auxilearn.experiments.generate._opinions import spread
from auxilearn.experiments.reproduce.generated import _graph, _opinions
from auxilearn.experiments.reproduce.generated._graph import graph_of, spread_along
from auxilearn.experiments.reproduce.generated._opinions import FOLDS, VIEWS, folds_of, opinions_of
from auxilearn.experiments.reproduce.generated._plain import MainOnly
from auxilearn.experiments.reproduce.generated._views import colours, gradients


def _points(size: int = 60) -> Tensor:
    return torch.randn(size, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def double() -> Generator[None, None, None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_sparse_spreading_is_the_dense_solve(double: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_graph, "_AT_ONCE", 16)  # several blocks, of which the last is smaller
    points = _points()
    dense = spread(torch.cdist(points, points), 6)
    sources = torch.eye(60, 6)
    sparse = spread_along(graph_of(points), sources, tolerance=1e-12)
    assert torch.allclose(sparse, dense, rtol=1e-9, atol=1e-12)
    # A column without a source stays empty, and does not disturb the others.
    more = spread_along(graph_of(points), torch.cat([sources, torch.zeros(60, 1)], 1), tolerance=1e-12)
    assert torch.equal(more[:, :6], sparse)
    assert not more[:, 6].any()


def test_the_graph_holds_no_more_than_its_edges() -> None:
    graph = graph_of(_points(), neighbours=4)
    assert 60 * 4 <= graph.edges <= 2 * 60 * 4
    matrix = graph.matrix.to_dense()
    assert torch.allclose(matrix, matrix.T)
    assert not matrix.diagonal().any()
    assert float(torch.linalg.eigvalsh(matrix).max()) == pytest.approx(1.0)


def test_equal_images_do_not_break_the_graph() -> None:
    points = torch.ones(12, 3)
    points[6:] = 2
    found = spread_along(graph_of(points, neighbours=3), torch.eye(12, 2))
    assert torch.isfinite(found).all()


def test_colours_are_means_over_cells() -> None:
    pixels, _ = digits()
    found = colours(pixels[:2])
    cell = pixels[1, 2, 4:6, 2:4].numpy().astype(float)
    assert found.shape == (2, 192)
    assert float(found[1].reshape(3, 8, 8)[2, 2, 1]) == pytest.approx(cell.mean() / 255)


@pytest.mark.parametrize(("side", "wanted"), [(32, 32), (64, 64)])
def test_gradients_are_histograms_of_directions(side: int, wanted: int) -> None:
    pixels = torch.randint(256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    grey = pixels[0].numpy().astype(float).mean(0) / 255
    padded = np.pad(grey, 1, mode="edge")
    cell = wanted // 8
    sums = np.zeros((8, 8, 8))
    for i in range(wanted):
        for j in range(wanted):
            across = padded[i + 1, j + 2] - padded[i + 1, j]
            down = padded[i + 2, j + 1] - padded[i, j + 1]
            angle, size = math.atan2(down, across), math.hypot(across, down)
            for a in range(8):
                value = size * max(0.0, math.cos(angle - 2 * math.pi * a / 8)) ** 4
                for row in range(8):
                    for column in range(8):
                        top, left = row * cell - cell // 2, column * cell - cell // 2
                        if top <= i < top + 2 * cell and left <= j < left + 2 * cell:
                            sums[a, row, column] += value
    exact = np.sqrt(sums / (2 * cell) ** 2).reshape(-1)
    exact /= np.linalg.norm(exact)
    assert np.allclose(gradients(pixels)[0].numpy(), exact, atol=1e-5)


def test_opinions_never_see_the_labels_that_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = task(epochs=2)
    fold = folds_of(found.classes)
    everything = MainOnly(found).student.eval()
    outside = [MainOnly(found, rows=(fold != f).nonzero()[:, 0]).student.eval() for f in range(FOLDS)]
    known = opinions_of(found, everything, outside)
    n, p, v = len(found.classes), len(found.pool), len(VIEWS)
    assert known.pool.shape == (p, v, 10)
    assert known.folds.shape == (FOLDS, p, v, 10)
    assert known.held.shape == (n, v, 10)
    for part in (known.pool, known.folds, known.held):
        assert torch.allclose(part.sum(-1), torch.ones(()), atol=1e-5)
    changed = torch.where(fold == 1, (found.classes + 1) % 10, found.classes)
    monkeypatch.setattr(_opinions, "folds_of", lambda *_, **__: fold)
    other = opinions_of(replace(found, classes=changed), everything, outside)
    assert torch.equal(known.folds[1], other.folds[1])
    assert torch.equal(known.held[fold == 1], other.held[fold == 1])
    assert not torch.equal(known.folds[0], other.folds[0])
    assert not torch.equal(known.pool, other.pool)
