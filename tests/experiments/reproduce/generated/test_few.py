import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from auxilearn.data import miniature
from auxilearn.errors import InputError
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._reproduction import PaperCell, Setup
from auxilearn.experiments.reproduce.generated._cars import CARS
from auxilearn.experiments.reproduce.generated._cifar import CIFAR10, CIFAR100
from auxilearn.experiments.reproduce.generated._cub import LEARNED_LABELS
from auxilearn.experiments.reproduce.generated._few_settings import Architecture, FewSettings
from auxilearn.experiments.reproduce.generated._pet import PET
from auxilearn.experiments.reproduce.generated._svhn import SVHN
from auxilearn.experiments.reproduce.generated._task import GeneratedTask

CELLS: dict[str, PaperCell] = {
    "cifar10": CIFAR10.cells[0],
    "cifar100": CIFAR100.cells[0],
    "svhn": SVHN.cells[0],
    "pet": PET.cells[0],
    "cars": CARS.cells[0],
    "cub": LEARNED_LABELS,
}
# Labelled, pool and validation images in the smoke run, by the published lists of the miniatures.
SIZES = {
    "cifar10": (60, 940, 0, 10),
    "cifar100": (300, 1700, 0, 100),
    "svhn": (60, 940, 0, 10),
    "pet": (148, 185, 111, 37),
    "cars": (588, 588, 0, 196),
    "cub": (600, 400, 0, 200),
}


@cache
def _folder(name: str) -> Path:
    folder = Path(mkdtemp())
    write: Callable[[Path], None] = getattr(miniature, f"write_{name}")
    write(folder)
    return folder


def _setup(name: str, splits: Path, seed: int = 0) -> Setup:
    return Setup(_folder(name), "smoke", seed, torch.device("cpu"), splits)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_gives_the_task_that_it_promises(name: str, tmp_path: Path) -> None:
    cell = CELLS[name]
    found: GeneratedTask = cell.task(_setup(name, tmp_path))
    labelled, pool, validation, classes = SIZES[name]
    assert (len(found.pixels), len(found.classes), len(found.pool)) == (labelled, labelled, pool)
    assert found.num_classes == classes
    parts = json.loads((tmp_path / "seed-0.json").read_text())["parts"]
    assert len(parts["validation"]) == validation
    assert (found.validate is not None) == (validation > 0)
    assert len(found.held_out) == len(parts["held_out"]) > 0
    assert sum(map(len, parts.values())) == labelled + pool + validation
    # The next method of the seed gets the same, another seed another.
    again = cell.task(_setup(name, tmp_path))
    assert torch.equal(found.pixels, again.pixels)
    other = cell.task(_setup(name, tmp_path, seed=1))
    assert not torch.equal(found.pixels, other.pixels)


@pytest.mark.parametrize("name", ["svhn", "pet"])
def test_a_cell_measures_top_1_and_top_3(name: str, tmp_path: Path) -> None:
    cell = CELLS[name]
    found: GeneratedTask = cell.task(_setup(name, tmp_path))
    model = found.student(0).eval()
    measured = cell.measure(found, model)
    assert list(measured) == [metric.name for metric in cell.metrics]
    with torch.no_grad():
        logits = model(found.augment(found.test[0], None))[0].numpy()
    order, classes = np.argsort(-logits, 1), found.test[1].numpy()
    assert measured["top-1"] == pytest.approx(100 * np.mean(order[:, 0] == classes), abs=1e-4)
    assert measured["top-3"] == pytest.approx(100 * np.mean((order[:, :3] == classes[:, None]).any(1)), abs=1e-4)
    if found.validate is not None:
        assert 0 <= found.validate(model) <= 100


def test_our_method_runs_on_a_miniature(tmp_path: Path) -> None:
    cell = CELLS["svhn"]
    made: GeneratedTask = cell.task(_setup("svhn", tmp_path / "splits"))
    found = replace(made, settings=replace(made.settings, epochs=2))
    outcome = cell.methods[cell.ours](found, Place(tmp_path, 0))
    json.dumps(dict(outcome.details), allow_nan=False)
    assert cell.measure(found, outcome.model)["top-3"] > 0
    assert not list(tmp_path.rglob("done"))


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_refers_to_methods_that_there_are(name: str) -> None:
    cell = CELLS[name]
    names = list(cell.methods)
    assert (names[0], names[-1]) == (cell.plain, cell.ours)
    assert set(cell.same) <= set(names)
    rows = cell.literature[0].rows
    assert set(rows) == {"STL", "MAXL-F", "MAXL", "AuxiLearn"}
    assert set(cell.same.values()) | {"MAXL", "MAXL-F"} == set(rows)


@pytest.mark.parametrize("name", CELLS)
def test_networks_of_both_budgets_share_weights_whatever_the_heads(name: str, tmp_path: Path) -> None:
    found: GeneratedTask = CELLS[name].task(_setup(name, tmp_path))
    state = torch.get_rng_state()
    plain, wide = found.student(0), found.student(7)
    teacher = found.teacher(7)
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(plain.parameters(), wide.shared(), strict=True):
        assert torch.equal(a, b)
    weights = (next(p for p in net.parameters() if p.dim() == 4) for net in (plain, teacher))
    assert not torch.equal(*weights)
    images = found.augment(found.pixels[:2], torch.Generator().manual_seed(0))
    assert [tuple(part.shape) for part in wide(images)] == [(2, found.num_classes), (2, 7)]
    features, main = wide.eval().features(images)
    heads = wide.network.heads
    assert isinstance(heads, nn.ModuleList)
    assert torch.allclose(heads[0](features), main, atol=1e-6)


@pytest.mark.parametrize("network", get_args(Architecture))
def test_every_network_reads_the_crops_and_takes_weights_or_refuses_them(network: str, tmp_path: Path) -> None:
    from auxilearn.experiments.reproduce.generated._few import _network

    setup = Setup(tmp_path, "paper", 0, torch.device("cpu"), tmp_path, changes={"network": network})
    settings: FewSettings = setup.of(CIFAR10.cells[0].recipe)
    side = 64 if network == "ResNet-50" else settings.side  # a ResNet takes any
    main, auxiliary = _network(settings, [10, 50], setup)(torch.zeros(2, 3, side, side))
    assert main.shape == (2, 10)
    assert auxiliary.shape == (2, 50)
    if not network.startswith("ResNet"):
        with pytest.raises(InputError, match=f"the network is {network}"):
            _network(settings, [10], replace(setup, pretrained=tmp_path / "resnet18.pth"))


def test_settings_out_of_range_are_refused() -> None:
    settings: FewSettings = PET.cells[0].recipe.of("smoke")
    with pytest.raises(InputError, match="size"):
        FewSettings(**{**vars(settings), "size": 8})
    with pytest.raises(InputError, match="network"):
        FewSettings(**{**vars(settings), "network": "LeNet"})
