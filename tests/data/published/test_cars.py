from pathlib import Path

import pytest
import scipy.io
import torch
import torchvision

from auxilearn.data.miniature import write_cars
from auxilearn.data.published import read_cars
from auxilearn.errors import InputError
from image_folders import fingerprint


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cars")
    write_cars(folder)
    return folder


@pytest.mark.parametrize("part", ["train", "test"])
def test_it_is_what_torchvision_reads(part: str, cars: Path) -> None:
    before = fingerprint(cars)
    transforms = torchvision.transforms.Compose(
        [torchvision.transforms.Resize((24, 24)), torchvision.transforms.PILToTensor()]
    )
    theirs = torchvision.datasets.StanfordCars(str(cars), split=part, transform=transforms)
    found = read_cars(cars, part, size=24)  # type: ignore[arg-type]
    assert len(found) == len(theirs)
    for row in (0, 1, 2, 100, len(theirs) - 1):  # one of them is grey
        image, label = theirs[row]
        assert torch.equal(found.pixels[row], image)
        assert found.classes[row] == label
    assert list(found.names) == theirs.classes
    assert fingerprint(cars) == before


def test_labels_are_those_of_the_matlab_file_less_one(cars: Path) -> None:
    content = scipy.io.loadmat(cars / "stanford_cars" / "devkit" / "cars_train_annos.mat")["annotations"]
    assert content.dtype.names == ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    rows = torch.tensor([7, 0])
    found = read_cars(cars, "train", size=8, rows=rows)
    assert found.classes.tolist() == [int(content["class"][0, row].item()) - 1 for row in (7, 0)]
    unlabelled = scipy.io.loadmat(cars / "stanford_cars" / "devkit" / "cars_test_annos.mat")["annotations"]
    assert "class" not in unlabelled.dtype.names


def test_missing_and_broken_files_are_named(cars: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cars_meta.mat`, a part of `car_devkit.tgz`.* its own site is gone"):
        read_cars(tmp_path, "train")
    base, real = tmp_path / "stanford_cars", cars / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    for name in ("cars_train", "cars_test"):
        (base / name).symlink_to(real / name)
    for name in ("devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"):
        (base / name).write_bytes((real / name).read_bytes())
    unlabelled = (real / "devkit" / "cars_test_annos.mat").read_bytes()
    (base / "cars_test_annos_withlabels.mat").write_bytes(unlabelled)
    with pytest.raises(InputError, match="must have the fields `fname` and `class`"):
        read_cars(tmp_path, "test")
    (base / "devkit" / "cars_train_annos.mat").write_bytes(b"<html>404</html>" * 20)
    with pytest.raises(InputError, match=r"cars_train_annos.mat` must be a MATLAB file with `annotations`"):
        read_cars(tmp_path, "train")
    scipy.io.savemat(base / "devkit" / "cars_meta.mat", {"class_names": ["a", "b"]})
    (base / "cars_test_annos_withlabels.mat").write_bytes((real / "cars_test_annos_withlabels.mat").read_bytes())
    with pytest.raises(InputError, match=r"must be numbered from 1 to 2\. They go to 196"):
        read_cars(tmp_path, "test")
