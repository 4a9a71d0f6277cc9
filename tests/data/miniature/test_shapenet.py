from pathlib import Path

import pytest
import torch

from auxilearn.data.miniature import write_shapenet
from auxilearn.data.miniature._real_points import back_projected, desk_points, motorcycle_points
from auxilearn.data.published import read_shapenet
from auxilearn.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("shapenet")
    write_shapenet(found)
    return found


def test_the_reader_reads_what_was_written(folder: Path) -> None:
    train, validation, test = (read_shapenet(folder, part, points=256) for part in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (70, 25, 25)
    for clouds in (train, validation, test):
        assert sorted(set(clouds.categories.tolist())) == [1, 2, 10, 11, 15]
        assert bool((clouds.points.norm(dim=2) <= 1 + 1e-5).all())
        assert torch.allclose(clouds.normals.norm(dim=2), torch.ones(()), atol=1e-4)
    for category in (1, 2, 10, 11, 15):
        assert set(train.parts[train.categories == category].flatten().tolist()) == set(train.parts_of[category])


def test_the_files_look_as_published(folder: Path) -> None:
    files = sorted(folder.rglob("*.txt"))
    assert sum(file.stat().st_size for file in files) < 20e6
    shape = next(file for file in files if file.parent.name == "03790512")
    words = shape.read_text().splitlines()[0].split()
    assert len(words) == 7
    assert all(len(word.split(".")[1]) == 6 for word in words)
    assert len(shape.stem) == 32


def test_a_seed_writes_the_same_again_and_another_one_does_not(folder: Path, tmp_path: Path) -> None:
    write_shapenet(tmp_path / "again")
    write_shapenet(tmp_path / "other", seed=1)
    name = next(file for file in sorted(folder.rglob("*.txt")) if file.parent != folder).relative_to(folder)
    assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="empty folder"):
        write_shapenet(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_a_pixel_is_put_where_its_ray_ends() -> None:
    camera = torch.tensor([[500.0, 0, 30], [0, 400, 20], [0, 0, 1]])
    depth = torch.rand(40, 60, generator=torch.Generator().manual_seed(0)) + 1
    points = back_projected(depth, camera)
    for row, column in ((0, 0), (39, 59), (7, 30)):
        z = float(depth[row, column])
        wanted = [z * (column - 30) / 500, z * (row - 20) / 400, z]
        assert points[row, column].tolist() == pytest.approx(wanted, abs=1e-6)


def test_the_objects_have_the_sizes_of_real_ones() -> None:
    book = desk_points()["laugh out loud jokes"].points
    assert 0.1 < float((book.quantile(0.99, 0) - book.quantile(0.01, 0)).max()) < 0.25  # metres
    wheel = motorcycle_points()["rear wheel"].points
    assert 0.3 < float(wheel[:, 1].quantile(0.99) - wheel[:, 1].quantile(0.01)) < 0.7
    for region in (*desk_points().values(), *motorcycle_points().values()):
        assert len(region) > 500
        assert bool(((region.points * region.normals).sum(1) < 0).all())  # toward the camera
