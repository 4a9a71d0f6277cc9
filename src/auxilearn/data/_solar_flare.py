"""Solar flares from the package ``river``."""

import csv
import io
import zipfile

import torch

from auxilearn.data._multi_target import MultiTarget
from auxilearn.data._packages import folder

_CATEGORIES = {"zurich-class": "BCDEFH", "largest-spot-size": "AHKRSX", "spot-distribution": "CIOX"}
_TARGETS = ("c-class-flares", "m-class-flares", "x-class-flares")


def solar_flare() -> MultiTarget:
    """Read the active regions of the sun that ship with ``river``: how many flares of three classes follow in a day.

    Flares are rare: 17 % of the regions have one of class C, 3 % of class M, and 0.5 % of class X, the strongest.

    Returns:
        1,066 regions, 23 features (three categories as zeros and ones, seven small integers) and 3 counts.

    Raises:
        MissingExtraError: If ``river`` is not installed; the extra ``data`` brings it.

    Example:
        >>> flares = solar_flare()
        >>> tuple(flares.features.shape), flares.targets.sum(0).tolist()
        ((1066, 23), [320.0, 50.0, 6.0])

    References:
        Bradshaw, "Solar flare", UCI Machine Learning Repository, 1989.
    """
    file = folder("river", extra="data") / "datasets" / "solar-flare.csv.zip"
    with zipfile.ZipFile(file) as archive, archive.open(archive.namelist()[0]) as stream:
        rows = list(csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8")))
    numbers = [name for name in rows[0] if name not in (*_CATEGORIES, *_TARGETS)]
    one_hot = [(name, value) for name, values in _CATEGORIES.items() for value in values]
    return MultiTarget(
        torch.tensor(
            [
                [float(row[name] == value) for name, value in one_hot] + [float(row[name]) for name in numbers]
                for row in rows
            ]
        ),
        torch.tensor([[float(row[name]) for name in _TARGETS] for row in rows]),
        (*(f"{name}={value}" for name, value in one_hot), *numbers),
        _TARGETS,
    )
