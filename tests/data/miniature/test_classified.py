from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from auxilearn.data.miniature import write_cars, write_cifar10, write_cub, write_pet, write_svhn
from auxilearn.data.published import ClassifiedImages, read_cifar10, read_pet, read_svhn
from auxilearn.errors import InputError
from image_folders import fingerprint

Write = Callable[..., None]


def contents(folder: Path) -> dict[str, str]:
    return {name: mark.split()[1] for name, mark in fingerprint(folder).items()}


@pytest.mark.parametrize("write", [write_cifar10, write_pet])
def test_a_seed_gives_the_same_files_and_another_gives_others(write: Write, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / name, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")


@pytest.mark.parametrize("write", [write_cars, write_cifar10, write_cub, write_svhn, write_pet])
def test_a_folder_with_something_in_it_is_refused_and_left_alone(write: Write, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    before = fingerprint(tmp_path)
    with pytest.raises(InputError, match="must go into an empty folder"):
        write(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        write(tmp_path / "mine")
    assert fingerprint(tmp_path) == before


def nearest_mean(train: ClassifiedImages, test: ClassifiedImages) -> float:
    means = torch.stack([train.pixels[train.classes == c].float().mean(0) for c in range(len(train.names))])
    distances = torch.cdist(test.pixels.float().flatten(1), means.flatten(1))
    return float((distances.argmin(1) == test.classes).float().mean())


def test_there_is_something_to_learn(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar10")
    write_pet(tmp_path / "pet")
    assert nearest_mean(*(read_cifar10(tmp_path / "cifar10", part) for part in ("train", "test"))) > 0.5
    assert nearest_mean(*(read_pet(tmp_path / "pet", part, size=32) for part in ("train", "test"))) > 0.3


def test_digits_can_be_seen_in_svhn(tmp_path: Path) -> None:
    write_svhn(tmp_path)
    found = read_svhn(tmp_path, "train")
    # Whether bright or dark, strokes stand out from what is behind them: ones differ from zeros in the middle.
    grey = found.pixels.float().mean(1)
    outlier = (grey - grey.flatten(1).median(1).values[:, None, None]).abs()
    middle = outlier[:, 14:18, 14:18].mean((1, 2)) / outlier.mean((1, 2))
    assert middle[found.classes == 1].mean() > 1.5 * middle[found.classes == 0].mean()
