"""Where each reproduction is, and each miniature: names for the command line."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.experiments.registry import suggestion
from auxilearn.experiments.reproduce._reproduction import Reproduction

_HERE = "auxilearn.experiments.reproduce"
REPRODUCTIONS: dict[str, str] = {
    "nyuv2": f"{_HERE}.combined._nyuv2:NYUV2",
    "cub": f"{_HERE}._cub:CUB",
    "cifar10": f"{_HERE}.generated._cifar:CIFAR10",
    "cifar100": f"{_HERE}.generated._cifar:CIFAR100",
    "svhn": f"{_HERE}.generated._svhn:SVHN",
    "pet": f"{_HERE}.generated._pet:PET",
    "cars": f"{_HERE}.generated._cars:CARS",
    "cityscapes": f"{_HERE}.combined._cityscapes:CITYSCAPES",
    "shapenet": f"{_HERE}.combined._shapenet:SHAPENET",
}
"""Name to ``"module:CONSTANT"``, in the order of the paper; one is imported when it is asked for."""


def reproduction(name: str) -> Reproduction:
    """Import a reproduction.

    Args:
        name: Its name.

    Returns:
        The reproduction.

    Raises:
        InputError: If none has this name.
    """
    module, _, constant = _known(name).partition(":")
    found: Reproduction = getattr(import_module(module), constant)
    return found


def miniature(name: str) -> Callable[..., None]:
    """Find what writes the miniature of a data set.

    Args:
        name: The reproduction's name.

    Returns:
        A function of a folder, and ``seed=``.

    Raises:
        InputError: If none has this name.
    """
    _known(name)
    found: Callable[[Path], None] = getattr(import_module("auxilearn.data.miniature"), f"write_{name}")
    return found


def _known(name: str) -> str:
    if name not in REPRODUCTIONS:
        rule = "A reproduction's name is one of the paper's data sets."
        raise InputError(explain(rule, f"There is no `{name}`.", suggestion(name, REPRODUCTIONS)))
    return REPRODUCTIONS[name]
