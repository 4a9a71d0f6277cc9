"""Readers of data sets in the formats in which they are published. They never change a file, and download nothing.

=========================  ============================================================
reader                     what it opens
=========================  ============================================================
:func:`read_cityscapes`    Cityscapes, 128 × 256, in MTAN's arrays: classes, disparity
:func:`read_nyuv2`         NYUv2, 288 × 384, in MTAN's arrays: classes, depth, normals
=========================  ============================================================
"""

from auxilearn.data.published._cityscapes import CITYSCAPES_FILES, read_cityscapes
from auxilearn.data.published._files import PublishedFile, require_files, verify_files
from auxilearn.data.published._kinds import ClassifiedImages, DenseImages, PointClouds
from auxilearn.data.published._nyuv2 import NYUV2_FILES, read_nyuv2
from auxilearn.data.published._splits import kept_split

__all__ = [
    "CITYSCAPES_FILES",
    "NYUV2_FILES",
    "ClassifiedImages",
    "DenseImages",
    "PointClouds",
    "PublishedFile",
    "kept_split",
    "read_cityscapes",
    "read_nyuv2",
    "require_files",
    "verify_files",
]
