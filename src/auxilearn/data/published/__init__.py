"""Readers of data sets in the formats in which they are published. They never change a file, and download nothing.

=========================  ============================================================
reader                     what it opens
=========================  ============================================================
:func:`read_cityscapes`    Cityscapes, 128 × 256, in MTAN's arrays: classes, disparity
:func:`read_nyuv2`         NYUv2, 288 × 384, in MTAN's arrays: classes, depth, normals
:func:`read_shapenet`      ShapeNet part: point clouds with normals and parts
:func:`read_cifar10`       ``cifar-10-batches-py``: pickles
:func:`read_cifar100`      ``cifar-100-python``: pickles
:func:`read_svhn`          ``train_32x32.mat``, ``test_32x32.mat``
:func:`read_pet`           ``oxford-iiit-pet``: photographs, lists
:func:`read_cars`          ``stanford_cars``: photographs, MATLAB files
:func:`read_cub`           ``CUB_200_2011``: photographs, lists, attributes
=========================  ============================================================

:func:`draw_few` draws which training rows are labelled, and :func:`kept_split` keeps the draw.
"""

from auxilearn.data.published._cars import CARS_FILES, read_cars
from auxilearn.data.published._cifar import CIFAR10_FILES, CIFAR100_FILES, read_cifar10, read_cifar100
from auxilearn.data.published._cityscapes import CITYSCAPES_FILES, read_cityscapes
from auxilearn.data.published._cub import CUB_FILES, cub_classes, read_cub
from auxilearn.data.published._few_labels import draw_few, labelled_rows
from auxilearn.data.published._files import PublishedFile, require_files, verify_files
from auxilearn.data.published._kinds import ClassifiedImages, DenseImages, PointClouds
from auxilearn.data.published._nyuv2 import NYUV2_FILES, read_nyuv2
from auxilearn.data.published._pet import PET_FILES, read_pet
from auxilearn.data.published._shapenet import (
    SHAPENET_CATEGORIES,
    SHAPENET_FILES,
    read_shapenet,
    shapenet_categories,
)
from auxilearn.data.published._splits import kept_split
from auxilearn.data.published._svhn import SVHN_FILES, read_svhn

__all__ = [
    "CARS_FILES",
    "CIFAR10_FILES",
    "CIFAR100_FILES",
    "CITYSCAPES_FILES",
    "CUB_FILES",
    "NYUV2_FILES",
    "PET_FILES",
    "SHAPENET_CATEGORIES",
    "SHAPENET_FILES",
    "SVHN_FILES",
    "ClassifiedImages",
    "DenseImages",
    "PointClouds",
    "PublishedFile",
    "cub_classes",
    "draw_few",
    "kept_split",
    "labelled_rows",
    "read_cars",
    "read_cifar10",
    "read_cifar100",
    "read_cityscapes",
    "read_cub",
    "read_nyuv2",
    "read_pet",
    "read_shapenet",
    "read_svhn",
    "require_files",
    "shapenet_categories",
    "verify_files",
]
