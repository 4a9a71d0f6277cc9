"""What readers of published data return: images with a class, images with a truth for each pixel, point clouds."""

from dataclasses import dataclass
from typing import final

from torch import Tensor


@final
@dataclass(frozen=True)
class ClassifiedImages:
    """N images with a class each.

    Attributes:
        pixels: Shape (N, 3, H, W), bytes.
        classes: Shape (N,), from 0.
        names: The name of each class.
        attributes: Whether each image has each attribute, shape (N, A), bool; None where there are no attributes.
        certainty: How sure the annotator was, shape (N, A), 1: not visible, 2: guessing, 3: probably, 4: definitely.
        attribute_names: The name of each attribute.
    """

    pixels: Tensor
    classes: Tensor
    names: tuple[str, ...]
    attributes: Tensor | None = None
    certainty: Tensor | None = None
    attribute_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, rows: Tensor) -> "ClassifiedImages":
        attributes = None if self.attributes is None else self.attributes[rows]
        certainty = None if self.certainty is None else self.certainty[rows]
        return ClassifiedImages(
            self.pixels[rows], self.classes[rows], self.names, attributes, certainty, self.attribute_names
        )


@final
@dataclass(frozen=True)
class DenseImages:
    """N images with a truth for each pixel.

    Attributes:
        images: Colours from 0 to 1, shape (N, 3, H, W).
        classes: Shape (N, H, W), integers; -1 where unlabelled.
        depth: Shape (N, 1, H, W); 0 where unknown. What it means, and its unit, are the data set's.
        normals: Unit vectors, shape (N, 3, H, W); 0 where unknown. None where there are none.
        names: The name of each class.
    """

    images: Tensor
    classes: Tensor
    depth: Tensor
    normals: Tensor | None
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor) -> "DenseImages":
        normals = None if self.normals is None else self.normals[rows]
        return DenseImages(self.images[rows], self.classes[rows], self.depth[rows], normals, self.names)


@final
@dataclass(frozen=True)
class PointClouds:
    """N shapes of P points, each point with a part.

    Attributes:
        points: Shape (N, P, 3), inside the unit sphere.
        normals: Unit vectors, shape (N, P, 3).
        parts: The part of each point, numbered over all categories, shape (N, P).
        categories: The category of each shape, shape (N,).
        names: The name of each category.
        parts_of: The parts of each category.
    """

    points: Tensor
    normals: Tensor
    parts: Tensor
    categories: Tensor
    names: tuple[str, ...]
    parts_of: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.categories)

    def __getitem__(self, rows: Tensor) -> "PointClouds":
        return PointClouds(
            self.points[rows], self.normals[rows], self.parts[rows], self.categories[rows], self.names, self.parts_of
        )
