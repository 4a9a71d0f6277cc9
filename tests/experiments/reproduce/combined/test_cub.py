import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auxilearn.data.miniature import write_cub
from auxilearn.data.published import read_cub
from auxilearn.experiments.reproduce._cub import CUB
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._reproduction import Setup
from auxilearn.experiments.reproduce.combined._cub import ATTRIBUTES, HIDDEN, species_and_attributes
from auxilearn.experiments.reproduce.combined._task import CombinedTask
from auxilearn.training._data import rows_of
from image_folders import fingerprint

FIVE, TEN = ATTRIBUTES
SPECIES = 12


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cub")
    write_cub(folder, classes=SPECIES)
    return folder


def task_of(cell: Any, birds: Path, splits: Path, *, seed: int = 0, budget: Any = "smoke") -> CombinedTask:
    return cell.task(Setup(birds, budget, seed, torch.device("cpu"), splits))


class Two(nn.Module):
    def __init__(self, species: Tensor, attributes: Tensor) -> None:
        super().__init__()
        self.species, self.attributes = nn.Parameter(species), nn.Parameter(attributes)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        return self.species, self.attributes


def test_losses_are_those_of_the_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, scores = torch.randn(4, 5, generator=generator), torch.randn(4, 3, generator=generator)
    species = torch.tensor([2, HIDDEN, 0, 4])
    present = torch.rand(4, 3, generator=generator) < 0.5
    visible = torch.rand(4, 3, generator=generator) < 0.7
    values, exists = species_and_attributes(Two(logits, scores), (torch.zeros(4), species, present, visible))
    for row in range(4):
        x = logits[row].double().tolist()
        if species[row] == HIDDEN:
            assert values[row, 0] == 0
        else:
            expected = math.log(sum(math.exp(v) for v in x)) - x[int(species[row])]
            assert values[row, 0].item() == pytest.approx(expected, rel=1e-5)
        for k in range(3):
            chance = 1 / (1 + math.exp(-float(scores[row, k])))
            expected = -math.log(chance if present[row, k] else 1 - chance)
            assert values[row, 1 + k].item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(exists, torch.cat([(species != HIDDEN)[:, None], visible], 1))


def test_only_few_species_are_known_and_all_attributes(birds: Path, tmp_path: Path) -> None:
    before = fingerprint(birds)
    task = task_of(FIVE, birds, tmp_path)
    data = task.problem.data.dataset  # type: ignore[union-attr]
    _, species, present, visible = data.__getitems__(list(range(len(data))))
    labelled = task.problem.labelled
    assert labelled is not None
    assert task.epoch == len(labelled) == 2 * SPECIES
    assert np.bincount(species[labelled].numpy()).tolist() == [2] * SPECIES
    assert bool((species[len(labelled) :] == HIDDEN).all())
    assert len(data) == SPECIES * 4  # of five, one validates
    assert task.held_out.tolist() == [row for row in task.held_out.tolist() if row < len(labelled)]
    assert len(task.held_out) == 1
    everything = read_cub(birds, "train", size=20)
    assert everything.attributes is not None
    assert everything.certainty is not None
    rate = everything.attributes[:, :6].float().mean()
    assert abs(present.float().mean() - rate) < 0.03
    assert abs(visible.float().mean() - (everything.certainty[:, :6] > 1).float().mean()) < 0.03
    assert not bool((present & ~visible).any())
    assert task.problem.names == ("species", *everything.attribute_names[:6])
    assert fingerprint(birds) == before


def test_seeds_draw_other_labels_and_methods_the_same(birds: Path, tmp_path: Path) -> None:
    def labels(seed: int, splits: str) -> list[int]:
        data = task_of(FIVE, birds, tmp_path / splits, seed=seed).problem.data.dataset  # type: ignore[union-attr]
        return data._pixels[: 2 * SPECIES].flatten(1).long().sum(1).tolist()

    assert labels(0, "a") == labels(0, "a") == labels(0, "b")
    assert labels(0, "a") != labels(1, "a")
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == ["seed-0.json", "seed-1.json"]


def test_the_network_is_a_function_of_the_seed(birds: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    one, two = (task_of(FIVE, birds, tmp_path).problem.new_model().state_dict() for _ in range(2))
    other = task_of(FIVE, birds, tmp_path, seed=1).problem.new_model().state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["heads.0.weight"], other["heads.0.weight"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("cell", ATTRIBUTES)
def test_the_papers_recipe_has_313_losses_of_a_resnet(cell: Any, birds: Path, tmp_path: Path) -> None:
    task = task_of(cell, birds, tmp_path, budget="paper")
    rows = rows_of(task.problem)
    model = task.problem.new_model().eval()
    (views, species, *_), _ = rows.batch(torch.tensor([0, rows.size - 1]), torch.device("cpu"))
    assert views.shape == (2, 3, 224, 224)
    assert (int(species[0]) != HIDDEN, int(species[1])) == (
        True,
        HIDDEN if cell is FIVE and rows.size > 60 else species[1],
    )
    values, exists = task.problem.losses(model, rows.batch(torch.tensor([0]), torch.device("cpu"))[0])
    assert values.shape == exists.shape == (1, 313)
    assert bool(values.isfinite().all())
    assert len(task.problem.named(313)) == 313
    assert type(model).__name__ == "ResNetHeads"


def test_training_lowers_every_loss(birds: Path, tmp_path: Path) -> None:
    task = task_of(FIVE, birds, tmp_path)
    task = replace(task, settings=replace(task.settings, epochs=80, lr=0.05, looks=8), validate=None)
    place = Place(tmp_path, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        outcome = FIVE.methods["equal"](task, place)
    with place.curve.open() as stream:
        points = list(csv.DictReader(stream))
    for name in task.problem.names or ():
        assert float(points[-1][name]) < float(points[0][name])
    found = FIVE.measure(task, outcome.model)
    assert found["top-1"] > 2 * 100 / SPECIES  # chance is 8.3 %
    assert found["top-3"] >= found["top-1"]


@pytest.mark.parametrize("method", ["equal", "AuxiLearn, nonlinear", "ours, fast"])
def test_a_run_that_was_interrupted_sees_the_same_crops(method: str, birds: Path, tmp_path: Path) -> None:
    def train(name: str, stop: int | None) -> dict[str, Tensor]:
        task = task_of(FIVE, birds, tmp_path / "splits")
        task = replace(task, settings=replace(task.settings, epochs=8))
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)

        def progress(phase: str, step: int, steps: int) -> None:
            if step == stop:
                raise RuntimeError("stopped")

        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = FIVE.methods[method](task, Place(folder, 0, progress, save_every=3)).model
        return model.state_dict()

    whole = train("whole", None)
    with pytest.raises(RuntimeError, match="stopped"):
        train("broken", 5)
    resumed = train("broken", None)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_papers_numbers_are_those_of_its_table() -> None:
    rows = FIVE.literature[0].rows
    assert rows["AuxiLearn nonlinear"]["top-1"] == (47.07, 0.1)
    assert TEN.literature[0].rows["STL"]["top-3"] == (74.00, 0.1)
    for cell in ATTRIBUTES:
        assert set(cell.same) <= set(cell.methods)
        assert set(cell.same.values()) <= set(rows)
        assert {name for name in rows if name in cell.methods} == {"DWA", "GradNorm", "GCS"}
    assert [cell.name for cell in CUB.cells][:2] == ["attributes, 5-shot", "attributes, 10-shot"]
