"""Small data sets in exactly the published formats, made from real pictures that ship in packages.

They let everything that reads the published data run without it. What is learned on them is evidence about nothing.
"""

from auxilearn.data.miniature._cityscapes import write_cityscapes
from auxilearn.data.miniature._nyuv2 import write_nyuv2

__all__ = ["write_cityscapes", "write_nyuv2"]
