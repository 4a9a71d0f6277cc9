"""Small data sets in exactly the published formats, made from real pictures that ship in packages.

They let everything that reads the published data run without it. What is learned on them is evidence about nothing.
"""

from auxilearn.data.miniature._cars import write_cars
from auxilearn.data.miniature._cifar import write_cifar10, write_cifar100
from auxilearn.data.miniature._cityscapes import write_cityscapes
from auxilearn.data.miniature._cub import write_cub
from auxilearn.data.miniature._nyuv2 import write_nyuv2
from auxilearn.data.miniature._pet import write_pet
from auxilearn.data.miniature._shapenet import write_shapenet
from auxilearn.data.miniature._svhn import write_svhn

__all__ = [
    "write_cars",
    "write_cifar10",
    "write_cifar100",
    "write_cityscapes",
    "write_cub",
    "write_nyuv2",
    "write_pet",
    "write_shapenet",
    "write_svhn",
]
