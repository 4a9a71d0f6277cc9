"""The dense tutorial: crops are disjoint, losses are right where there is a truth, and every method runs."""

import pickle

import pytest
import torch
from torch.nn import functional

from auxilearn.errors import InputError
from auxilearn.experiments.dense._experiment import DENSE, DenseMethod
from auxilearn.experiments.dense._task import Crops, DenseCrops, mean_iou, pixel_losses


def test_crops_are_disjoint_parts_of_the_frame() -> None:
    task = DenseCrops(train=30)(0)
    assert (len(task.train), len(task.test)) == (30, 70)
    assert task.train.images.shape == (30, 3, 24, 32)
    images = torch.cat([task.train.images, task.test.images]).flatten(1)
    assert len(images.unique(dim=0)) == 100
    again, other = DenseCrops(train=30)(0), DenseCrops(train=30)(1)
    assert torch.equal(again.train.images, task.train.images)
    assert not torch.equal(other.train.images, task.train.images)


def test_losses_are_zero_where_there_is_no_truth() -> None:
    task = DenseCrops()(0)
    model = task.new_model()
    losses = pixel_losses(model, task.train)
    assert losses.shape == (40, 3, 24, 32)
    assert losses.isfinite().all()
    assert not losses[:, 1][~task.train.has_depth].any()
    assert not losses[:, 2][~task.train.has_normal].any()
    z = model(task.train.images)
    torch.testing.assert_close(losses[:, 0], functional.cross_entropy(z[:, :9], task.train.classes, reduction="none"))
    i, v, u = task.train.has_normal.nonzero()[0]
    slow = sum((z[i, 10 + c, v, u] - task.train.normals[i, c, v, u]) ** 2 for c in range(3))
    torch.testing.assert_close(losses[i, 2, v, u], slow)


def test_mean_iou_counts_the_classes_that_occur() -> None:
    truth = torch.tensor([[0, 0, 2, 2]])
    assert mean_iou(truth, truth) == 100
    assert mean_iou(torch.tensor([[0, 1, 2, 2]]), truth) == pytest.approx(100 * (1 / 2 + 1) / 2)
    assert mean_iou(torch.tensor([[1, 1, 1, 1]]), truth) == 0


def test_a_crop_is_taken_from_all_fields() -> None:
    crops = DenseCrops()(0).train
    rows = torch.tensor([3, 1])
    part = crops[rows]
    assert isinstance(part, Crops)
    assert len(part) == 2
    assert torch.equal(part.normals, crops.normals[rows])


@pytest.mark.parametrize("name", list(DENSE.cells[0].methods))
def test_every_method_runs_and_repeats(name: str) -> None:
    method = DENSE.cells[0].methods[name]
    assert isinstance(pickle.loads(pickle.dumps(method)), DenseMethod)
    short = DenseMethod(method.combine, steps=4, batch=4, held_back=2, every=2)  # type: ignore[attr-defined]
    task = DenseCrops(train=10)(0)
    first, again = short(task, 0), short(task, 0)
    assert first.score == again.score
    assert 0 <= first.score <= 100
    if name == "equal, normalised":
        assert first.details["weights"] == pytest.approx([1, 1, 1])
    if name.startswith("learned"):
        assert first.details["weights"][0] > 1  # the main loss is added once more
        assert all(w > 0 for w in first.details["weights"])


def test_a_test_set_must_be_left() -> None:
    with pytest.raises(InputError, match="There are 100, and 100 train"):
        DenseCrops(train=100)(0)
    with pytest.raises(InputError, match="`train` must be an integer of at least 2"):
        DenseCrops(train=0)
