"""Readers of real data that ships inside ordinary packages; nothing is downloaded.

>>> from auxilearn.data import mnist_5k
>>> images = mnist_5k()
>>> tuple(images.pixels.shape), images.classes.bincount().tolist()
((5000, 14, 14), [500, 500, 500, 500, 500, 500, 500, 500, 500, 500])
"""

from auxilearn.data._images import CLASSES, Images, mnist_5k, sklearn_digits
from auxilearn.data._split import Split, few_labels

__all__ = ["CLASSES", "Images", "Split", "few_labels", "mnist_5k", "sklearn_digits"]
