"""NYUv2 and Cityscapes: losses against plain loops, splits, validation, and every metric of a trained network."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from auxilearn.data.miniature import write_cityscapes, write_nyuv2
from auxilearn.data.published import DenseImages, read_nyuv2
from auxilearn.errors import InputError
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._reproduction import PaperCell, Reproduction, Setup
from auxilearn.experiments.reproduce.combined._cityscapes import CITYSCAPES
from auxilearn.experiments.reproduce.combined._dense import pixel_losses, sample_losses, shrunk
from auxilearn.experiments.reproduce.combined._dense_task import DenseRows, DenseScores, new_network
from auxilearn.experiments.reproduce.combined._nyuv2 import NYUV2
from auxilearn.experiments.reproduce.combined._task import CombinedTask
from auxilearn.models import DeepLabHeads, SegNetMTAN, SegNetSplit

CPU = torch.device("cpu")
BOTH = {"nyuv2": NYUV2, "cityscapes": CITYSCAPES}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {name: tmp_path_factory.mktemp("data") / name for name in BOTH}
    write_nyuv2(found["nyuv2"], train=8, test=2)
    write_cityscapes(found["cityscapes"], train=8, test=2)
    return found


def made(reproduction: Reproduction, folders, tmp_path: Path, *, seed: int = 0) -> tuple[PaperCell, CombinedTask]:
    (cell,) = reproduction.cells
    return cell, cell.task(Setup(folders[reproduction.name], "smoke", seed, CPU, tmp_path / "splits"))


class Fixed(nn.Module):
    """Returns what it was given."""

    def __init__(self, *outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs, self.weight = outputs, nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.outputs


def drawn(normals: bool) -> tuple[Fixed, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shape = (3, 4, 5)
    classes = torch.randint(-1, 4, shape, generator=generator).to(torch.int8)
    depth = torch.rand(3, 1, 4, 5, generator=generator) * (torch.rand(3, 1, 4, 5, generator=generator) < 0.6)
    truth = torch.randn(3, 3, 4, 5, generator=generator) * (torch.rand(3, 1, 4, 5, generator=generator) < 0.5)
    classes[1], depth[2] = -1, 0  # one image without a class, one without a depth
    outputs = [torch.randn(3, c, 4, 5, generator=generator) for c in (4, 1, 3)]
    batch = [torch.zeros(3, 3, 4, 5), classes, depth]
    return (Fixed(*outputs), [*batch, truth]) if normals else (Fixed(*outputs[:2]), batch)


def by_loops(model: Fixed, batch: list[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    outputs = [output.double().numpy() for output in model.outputs]
    _, classes, depth, *normals = (tensor.double().numpy() for tensor in batch)
    losses = np.zeros((3, len(batch) - 1, 4, 5))
    mask = np.zeros(losses.shape, bool)
    for i, h, w in np.ndindex(3, 4, 5):
        if classes[i, h, w] >= 0:
            z = outputs[0][i, :, h, w]
            losses[i, 0, h, w] = np.log(np.exp(z).sum()) - z[int(classes[i, h, w])]
            mask[i, 0, h, w] = True
        if depth[i, 0, h, w] != 0:
            losses[i, 1, h, w] = abs(outputs[1][i, 0, h, w] - depth[i, 0, h, w])
            mask[i, 1, h, w] = True
        if normals and normals[0][i, :, h, w].any():
            a, b = outputs[2][i, :, h, w], normals[0][i, :, h, w]
            losses[i, 2, h, w] = 1 - a @ b / np.sqrt((a @ a) * (b @ b))
            mask[i, 2, h, w] = True
    return losses, mask


@pytest.mark.parametrize("normals", [True, False])
def test_losses_are_what_loops_find(normals):
    model, batch = drawn(normals)
    losses, mask = by_loops(model, batch)
    found, present = pixel_losses(model, batch)
    assert np.allclose(found.numpy(), losses, atol=1e-6)
    assert np.array_equal(present.numpy(), mask)
    values, exist = sample_losses(model, batch)
    for i, k in np.ndindex(3, losses.shape[1]):
        assert bool(exist[i, k]) == mask[i, k].any()
        wanted = losses[i, k][mask[i, k]].mean() if mask[i, k].any() else 0.0
        assert float(values[i, k]) == pytest.approx(wanted, abs=1e-6)
    assert exist.tolist()[1][0] is False
    assert exist.tolist()[2][1] is False


def test_what_has_no_truth_changes_nothing():
    model, batch = drawn(True)
    values, _ = sample_losses(model, batch)
    unlabelled, unknown = (batch[1] < 0)[:, None], batch[2] == 0
    outputs = list(model.outputs)
    outputs[0] = outputs[0] + 9 * torch.randn(3, 4, 4, 5) * unlabelled
    outputs[1] = outputs[1] + 9 * unknown
    assert torch.allclose(sample_losses(Fixed(*outputs), batch)[0], values, atol=1e-6)
    outputs[0] = outputs[0].clone()
    outputs[0][0, 0, 0, 0] = torch.nan  # but NaN is never silent
    assert sample_losses(Fixed(*outputs), batch)[0].isnan().any()


def test_shrinking_averages_colours_and_mixes_no_truth():
    generator = torch.Generator().manual_seed(0)
    data = DenseImages(
        torch.rand(2, 3, 6, 9, generator=generator),
        torch.randint(-1, 5, (2, 6, 9), generator=generator),
        torch.rand(2, 1, 6, 9, generator=generator),
        torch.rand(2, 3, 6, 9, generator=generator),
        ("a",) * 5,
    )
    small = shrunk(data, 3)
    assert tuple(small.images.shape) == (2, 3, 2, 3)
    for h, w in np.ndindex(2, 3):
        square = data.images[:, :, 3 * h : 3 * h + 3, 3 * w : 3 * w + 3]
        assert torch.allclose(small.images[:, :, h, w], square.mean((2, 3)))
        assert torch.equal(small.classes[:, h, w], data.classes[:, 3 * h + 1, 3 * w + 1])
        assert torch.equal(small.depth[:, 0, h, w], data.depth[:, 0, 3 * h + 1, 3 * w + 1])
        assert small.normals is not None
        assert torch.equal(small.normals[:, :, h, w], data.normals[:, :, 3 * h + 1, 3 * w + 1])
    assert shrunk(data, 1) is data


@pytest.mark.parametrize("name", BOTH)
def test_the_split_is_kept_and_disjoint(name, folders, tmp_path):
    _, task = made(BOTH[name], folders, tmp_path)
    (file,) = (tmp_path / "splits").iterdir()
    parts = {part: set(rows) for part, rows in json.loads(file.read_text())["parts"].items()}
    assert {part: len(rows) for part, rows in parts.items()} == {"validation": 2, "auxiliary": 1, "train": 5}
    assert set.union(*parts.values()) == set(range(8))
    assert len(task.problem.data) == task.epoch == 6
    assert task.held_out.tolist() == [5]
    again = made(BOTH[name], folders, tmp_path)[1]
    assert all(
        torch.equal(a, b) for i in range(6) for a, b in zip(task.problem.data[i], again.problem.data[i], strict=True)
    )
    made(BOTH[name], folders, tmp_path, seed=1)
    assert len(list((tmp_path / "splits").iterdir())) == 2


def test_rows_are_those_of_the_files(folders, tmp_path):
    _, task = made(NYUV2, folders, tmp_path)
    parts = json.loads(next((tmp_path / "splits").iterdir()).read_text())["parts"]
    settings = NYUV2.cells[0].recipe.smoke
    data = shrunk(read_nyuv2(folders["nyuv2"], "train"), settings.shrink)
    for index, row in enumerate([*parts["train"], *parts["auxiliary"]]):
        wanted = (data.images[row], data.classes[row], data.depth[row], data.normals[row])
        assert all(torch.equal(a, b) for a, b in zip(task.problem.data[index], wanted, strict=True))


def test_the_paper_s_numbers_of_rows():
    (cell,) = NYUV2.cells
    paper, validation = cell.recipe.paper, int(cell.recipe.paper.validation * 795)
    assert (795 - validation, int(paper.held_out * (795 - validation))) == (716, 17)  # as in the original code


@pytest.mark.parametrize("name", BOTH)
def test_the_paper_s_budget_wants_all_images(name, folders, tmp_path):
    (cell,) = BOTH[name].cells
    with pytest.raises(InputError, match=r"must have all .* There are 8"):
        cell.task(Setup(folders[name], "paper", 0, CPU, tmp_path))


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("method", ["equal", "AuxiLearn, ConvNet"])
def test_a_method_trains_and_every_metric_is_there(name, method, folders, tmp_path):
    before = {f: hashlib.sha256(f.read_bytes()).hexdigest() for f in folders[name].rglob("*.npy")}
    cell, task = made(BOTH[name], folders, tmp_path)
    outcome = cell.methods[method](task, Place(tmp_path, 0))
    found = cell.measure(task, outcome.model)
    assert {metric.name for metric in cell.metrics} <= found.keys()
    assert all(np.isfinite(value) for value in found.values())
    assert before == {f: hashlib.sha256(f.read_bytes()).hexdigest() for f in folders[name].rglob("*") if f.is_file()}
    assert "validation" in (tmp_path / "curve.csv").read_text().splitlines()[0]


def test_losses_fall(folders, tmp_path):
    _, task = made(NYUV2, folders, tmp_path)
    model, data = task.problem.new_model().train(), task.problem.data
    batch = [torch.stack(layer) for layer in zip(*(data[i] for i in range(len(data))), strict=True)]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = last = torch.zeros(())
    for step in range(25):
        values, present = sample_losses(model, batch)
        last = values.sum(0) / present.sum(0)
        first = last.detach() if step == 0 else first
        optimizer.zero_grad()
        last.sum().backward()
        optimizer.step()
    assert (last < 0.95 * first).all()


def test_scores_do_not_depend_on_the_batch(folders, tmp_path):
    _, task = made(NYUV2, folders, tmp_path)
    model, test = task.problem.new_model().eval(), task.test
    assert replace(test, batch=1).all(model) == pytest.approx(test.all(model), rel=1e-4)
    assert test.segmentation(model) == pytest.approx(test.all(model)["mIoU"])
    assert task.validate is not None
    assert 0 <= task.validate(model) <= 100


def test_a_perfect_network_has_no_errors():
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 3, (2, 4, 5), generator=generator)
    depth = torch.rand(2, 1, 4, 5, generator=generator) + 0.1
    normals = torch.randn(2, 3, 4, 5, generator=generator)
    data = DenseImages(torch.zeros(2, 3, 4, 5), classes, depth, normals, ("a", "b", "c"))
    logits = nn.functional.one_hot(classes, 3).movedim(-1, 1).float()
    found = DenseScores(data, torch.arange(2), 2).all(Fixed(logits, depth, 5 * normals))
    assert found["mIoU"] == found["pixel accuracy"] == found["within 11.25°"] == 100
    assert found["absolute error"] == 0
    assert found["mean angle"] < 1e-4


def test_rows_share_the_images():
    data = DenseImages(torch.rand(4, 3, 2, 2), torch.zeros(4, 2, 2), torch.rand(4, 1, 2, 2), None, ("a",))
    rows = DenseRows(data, torch.tensor([2, 0]))
    assert len(rows) == 2
    assert rows[0][0].data_ptr() == data.images[2].data_ptr()
    assert len(rows[1]) == 3


def test_the_recipe_names_the_network(tmp_path):
    settings = replace(NYUV2.cells[0].recipe.smoke, widths=(4, 4, 4, 4, 4))
    for name, kind in (("segnet", SegNetSplit), ("mtan", SegNetMTAN), ("deeplab", DeepLabHeads)):
        chosen = replace(settings, network=name)
        assert isinstance(new_network(chosen, (13, 1, 3), seed=0, pretrained=None), kind)
    with pytest.raises(InputError, match="SegNet starts at random"):
        new_network(settings, (13, 1, 3), seed=0, pretrained=tmp_path / "resnet50.pth")
    with pytest.raises(InputError, match="network"):
        replace(settings, network="unet")


@pytest.mark.parametrize("name", BOTH)
def test_others_numbers_name_known_metrics(name):
    (cell,) = BOTH[name].cells
    names = {metric.name for metric in cell.metrics}
    for source in cell.literature:
        assert all(set(row) <= names for row in source.rows.values())
    stated = set().union(*(source.rows for source in cell.literature))
    assert set(cell.same.values()) <= stated
    assert cell.plain in cell.methods
    assert cell.ours in cell.methods
