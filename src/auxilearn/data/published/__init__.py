"""Readers of data sets in the formats in which they are published. They never change a file, and download nothing.

=========================  ============================================================
reader                     what it opens
=========================  ============================================================
:func:`read_shapenet`      ShapeNet part: point clouds with normals and parts
=========================  ============================================================
"""

from auxilearn.data.published._files import PublishedFile, require_files, verify_files
from auxilearn.data.published._kinds import ClassifiedImages, DenseImages, PointClouds
from auxilearn.data.published._shapenet import (
    SHAPENET_CATEGORIES,
    SHAPENET_FILES,
    read_shapenet,
    shapenet_categories,
)
from auxilearn.data.published._splits import kept_split

__all__ = [
    "SHAPENET_CATEGORIES",
    "SHAPENET_FILES",
    "ClassifiedImages",
    "DenseImages",
    "PointClouds",
    "PublishedFile",
    "kept_split",
    "read_shapenet",
    "require_files",
    "shapenet_categories",
    "verify_files",
]
