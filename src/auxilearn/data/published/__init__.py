"""Readers of data sets in the formats in which they are published. They never change a file, and download nothing.

=========================  ============================================================
reader                     what it opens
=========================  ============================================================
=========================  ============================================================
"""

from auxilearn.data.published._files import PublishedFile, require_files, verify_files
from auxilearn.data.published._kinds import ClassifiedImages, DenseImages, PointClouds
from auxilearn.data.published._splits import kept_split

__all__ = [
    "ClassifiedImages",
    "DenseImages",
    "PointClouds",
    "PublishedFile",
    "kept_split",
    "require_files",
    "verify_files",
]
