from pathlib import Path

import pytest
import torch

from auxilearn.data.miniature import write_shapenet
from auxilearn.data.published import SHAPENET_CATEGORIES, read_shapenet
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._reproduction import Setup
from auxilearn.experiments.reproduce.combined._point_tasks import TASKS
from auxilearn.experiments.reproduce.combined._shapenet import SHAPENET, measure, shapenet_task
from auxilearn.experiments.reproduce.combined._shapenet_recipe import SHAPENET_RECIPE
from auxilearn.experiments.reproduce.combined._task import CombinedTask

SMOKE = SHAPENET_RECIPE.smoke


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("shapenet")
    write_shapenet(found / "data")
    return found


def task(folder: Path, seed: int = 0) -> CombinedTask:
    return shapenet_task(Setup(folder / "data", "smoke", seed, torch.device("cpu"), folder / "splits"))


def test_few_shapes_of_each_category_are_labelled_and_the_others_forgot_their_parts(folder: Path) -> None:
    made = task(folder)
    points, _, parts, categories, rows = made.problem.data
    labelled = made.problem.labelled
    assert labelled is not None
    assert categories[labelled].bincount()[[1, 2, 10, 11, 15]].tolist() == [SMOKE.shots] * 5
    assert len(points) == 5 * SMOKE.shots + SMOKE.pool
    assert rows.tolist() == list(range(len(points)))
    first = torch.tensor([of[0] for _, _, of in SHAPENET_CATEGORIES])
    pool = slice(len(labelled), None)
    assert torch.equal(parts[pool], first[categories[pool]][:, None].expand_as(parts[pool]))
    assert set(made.held_out.tolist()) <= set(labelled.tolist())
    assert len(made.held_out) == SMOKE.held_out * len(labelled)
    assert made.problem.names == TASKS


def test_labelled_shapes_pool_and_validation_shapes_are_disjoint_and_those_of_the_data(folder: Path) -> None:
    made = task(folder)
    train = read_shapenet(folder / "data", "train", points=SMOKE.points)
    places = {tuple(shape.flatten().tolist()): row for row, shape in enumerate(train.points)}
    used = [places[tuple(shape.flatten().tolist())] for shape in made.problem.data[0]]
    assert len(set(used)) == len(used)
    own = train.parts[used[: made.epoch]]
    assert torch.equal(made.problem.data[2][: made.epoch], own)


def test_a_seed_is_a_split_and_weights_and_they_are_kept(folder: Path) -> None:
    first, again, other = task(folder), task(folder), task(folder, seed=1)
    assert torch.equal(first.problem.data[0], again.problem.data[0])
    assert not torch.equal(first.problem.data[0], other.problem.data[0])
    mine, same, others = (list(made.problem.new_model().parameters()) for made in (first, again, other))
    assert all(torch.equal(a, b) for a, b in zip(mine, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(mine, others, strict=True))
    assert (folder / "splits").is_dir()


@pytest.mark.parametrize("name", ["main only", "AuxiLearn, linear"])
def test_a_method_trains_and_is_measured(folder: Path, tmp_path: Path, name: str) -> None:
    made = task(folder)
    outcome = SHAPENET.cells[0].methods[name](made, Place(tmp_path, 0))
    found = measure(made, outcome.model)
    assert set(found) == {metric.name for metric in SHAPENET.cells[0].metrics}
    assert all(0 < value <= 100 for value in found.values())
    assert (tmp_path / "curve.csv").read_text().count("\n") > 1


def test_a_network_that_knows_the_parts_scores_100(folder: Path) -> None:
    made = task(folder)

    class Oracle(torch.nn.Module):
        def forward(self, points: torch.Tensor, categories: torch.Tensor) -> tuple[torch.Tensor]:
            known = made.test.points.flatten(1)
            rows = torch.cdist(points.flatten(1), known).argmin(1)
            return (torch.nn.functional.one_hot(made.test.parts[rows], 50).float(),)

    assert set(measure(made, Oracle()).values()) == {100.0}
    assert made.validate is not None
    assert made.validate(Oracle()) < 100  # these are other shapes


def test_every_method_is_there_and_none_is_of_pixels() -> None:
    cell = SHAPENET.cells[0]
    assert {cell.plain, cell.ours} <= set(cell.methods)
    assert not any("ConvNet" in name for name in cell.methods)
