"""Readers of real data that ships inside ordinary packages; nothing is downloaded.

>>> from auxilearn.data import mnist_5k
>>> images = mnist_5k()
>>> tuple(images.pixels.shape), images.classes.bincount().tolist()
((5000, 14, 14), [500, 500, 500, 500, 500, 500, 500, 500, 500, 500])
"""

from auxilearn.data._images import CLASSES, Images, mnist_5k, sklearn_digits
from auxilearn.data._multi_target import MultiTarget
from auxilearn.data._qm9 import qm9
from auxilearn.data._rgbd import RgbdFrame, rgbd_frame, surface_normals
from auxilearn.data._solar_flare import solar_flare
from auxilearn.data._split import Split, few_labels

__all__ = [
    "CLASSES",
    "Images",
    "MultiTarget",
    "RgbdFrame",
    "Split",
    "few_labels",
    "mnist_5k",
    "qm9",
    "rgbd_frame",
    "sklearn_digits",
    "solar_flare",
    "surface_normals",
]
