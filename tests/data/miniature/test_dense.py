"""The miniatures of NYUv2 and Cityscapes: real, in full size, reproducible, with disjoint parts."""

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from auxilearn.data import rgbd_frame
from auxilearn.data.miniature import write_cityscapes, write_nyuv2
from auxilearn.data.miniature._cityscapes import _classes
from auxilearn.data.miniature._cuts import Region, write_cuts
from auxilearn.data.published import read_cityscapes, read_nyuv2
from auxilearn.errors import InputError

WRITERS = [write_nyuv2, write_cityscapes]


def content(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.rglob("*.npy")}


@pytest.mark.parametrize("write", WRITERS)
def test_a_seed_gives_one_miniature(write, tmp_path):
    state = torch.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(tmp_path / name, seed=seed, train=2, test=1)
    assert content(tmp_path / "a") == content(tmp_path / "b") != content(tmp_path / "c")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("write", WRITERS)
def test_nothing_is_overwritten(write, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="empty folder"):
        write(tmp_path)
    with pytest.raises(InputError, match="empty folder"):
        write(tmp_path / "precious.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["precious.txt"]


def test_nyuv2_has_real_truth(tmp_path):
    write_nyuv2(tmp_path, train=6, test=2)
    data, frame = read_nyuv2(tmp_path, "train"), rgbd_frame()
    lengths = data.normals.norm(dim=1)
    assert torch.all((lengths == 0) | ((lengths - 1).abs() < 1e-5))
    assert set(data.depth.unique().tolist()) <= {0.0, *frame.depth.float().unique().tolist()}
    assert data.classes.unique().tolist() == list(range(-1, 9))
    assert read_nyuv2(tmp_path, "test").classes.max() > 0
    # Half of the cuts are mirrored; all normals look at the camera.
    assert (data.normals[:, 2] <= 0.3).all()


def test_cityscapes_has_real_disparity(tmp_path):
    write_cityscapes(tmp_path, train=6, test=2)
    data = read_cityscapes(tmp_path, "train")
    with np.load(Path(skimage.__file__).parent / "data" / "motorcycle_disp.npz") as arrays:
        disparity = arrays["arr_0"]
    stored = (256 * disparity[np.isfinite(disparity)].astype(np.float64) + 1) / 65535
    known = data.depth[data.depth > 0]
    assert 0.5 > known.max() > 0.1
    nearest = np.sort(stored)[np.clip(np.searchsorted(np.sort(stored), known.numpy()), 0, len(stored) - 1)]
    assert np.abs(nearest - known.numpy()).max() < 1e-4
    assert torch.equal(data.classes == -1, data.depth[:, 0] == 0)


def test_the_classes_of_cityscapes_follow_their_rule():
    source = Path(skimage.__file__).parent / "data"
    colours = np.asarray(Image.open(source / "motorcycle_left.png").convert("RGB"), dtype=np.float64) / 255
    with np.load(source / "motorcycle_disp.npz") as arrays:
        disparity = arrays["arr_0"].astype(np.float64)
    found = _classes(torch.from_numpy(colours).movedim(-1, 0), torch.from_numpy(disparity))
    bands, places = (classes.numpy() for classes in found)
    counts, brightness, first = np.bincount(bands[bands >= 0]), colours.mean(-1), 0
    assert len(counts) == 7
    assert counts.max() - counts.min() <= 1
    for band in range(6):  # each band is darker than the next
        assert brightness[bands == band].max() <= brightness[bands == band + 1].min() + 1e-12
    for band, number in enumerate((3, 3, 3, 3, 3, 2, 2)):
        inside = [disparity[places == first + k] for k in range(number)]
        assert sum(map(len, inside)) == counts[band]
        assert max(map(len, inside)) - min(map(len, inside)) <= 1
        assert np.array_equal(np.unique(bands[(places >= first) & (places < first + number)]), [band])
        assert all(near.min() >= far.max() for near, far in pairwise(inside))
        first += number
    assert places.max() == 18
    assert np.array_equal(bands == -1, ~np.isfinite(disparity))


def test_a_cut_is_from_its_region_and_mirrored_with_its_normals(tmp_path):
    place = torch.arange(60 * 80, dtype=torch.float32).reshape(60, 80)  # says where a pixel comes from
    layers = {"where": place[None], "normal": torch.stack([place / 4800, place * 0 + 1, place * 0])}
    region = Region(10, 50, 20, 70)
    generator = torch.Generator().manual_seed(0)
    write_cuts(tmp_path, layers, [region], 12, size=(60, 80), generator=generator)
    signs = set()
    for number in range(12):
        where = np.load(tmp_path / "where" / f"{number}.npy")[..., 0].astype(int)
        rows, columns = where // 80, where % 80
        assert 10 <= rows.min() <= rows.max() < 50
        assert 20 <= columns.min() <= columns.max() < 70
        assert np.all(np.diff(rows[:, 0]) >= 0)
        sign = np.sign(columns[0, -1] - columns[0, 0])
        signs.add(sign)
        normal = np.load(tmp_path / "normal" / f"{number}.npy")
        assert np.allclose(normal[..., 0], sign * where / 4800)
        assert np.all(normal[..., 1] == 1)
    assert signs == {-1, 1}
