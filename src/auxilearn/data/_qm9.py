"""Small organic molecules from the package ``qm9pack``."""

import csv
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn.data._multi_target import MultiTarget
from auxilearn.data._packages import folder
from auxilearn.errors import InputError

_SIZE = 130_831
_ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
_ATOMS = 29  # the largest molecule
_BOHR = 0.529177  # in ångström
_TARGETS = {
    "HOMO-LUMO gap": "HOMO_LUMO_gap_au",
    "HOMO": "HOMO_au",
    "LUMO": "LUMO_au",
    "dipole moment": "Dipole_debye",
    "polarizability": "Polarizability_bohr3",
    "spatial extent": "R2_bohr2",
    "zero-point energy": "ZPVE_au",
    "internal energy": "InternalEnergy_0K_au",
    "heat capacity": "Heatcapacity_Cv_cal_mol_K",
    "rotational constant A": "RotA_GHz",
    "rotational constant B": "RotB_GHz",
    "rotational constant C": "RotC_GHz",
}
_SYMBOLS = {"double bonds": "=", "triple bonds": "#", "branches": "(", "first rings": "1", "second rings": "2"}


@lru_cache(maxsize=2)
def qm9(*, size: int = 5000, seed: int = 0) -> MultiTarget:
    r"""Read molecules with up to nine heavy atoms, and twelve properties computed by density functional theory.

    Features are counts of atoms, of symbols in the SMILES string, and the eigenvalues of the Coulomb matrix by size,

    .. math:: C_{ii} = \tfrac12 Z_i^{2.4}, \qquad C_{ij} = \frac{Z_i Z_j}{\lVert R_i - R_j \rVert}

    with zeros behind them for small molecules. Reading takes one or two seconds; the result is kept for the next call,
    and shared.

    Args:
        size: How many molecules, drawn at random.
        seed: The seed of the draw.

    Returns:
        The molecules: 39 features, 12 targets, in the package's units.

    Raises:
        InputError: If ``size`` is below 1 or above the 130,831 molecules that there are.
        MissingExtraError: If ``qm9pack`` is not installed; the extra ``molecules`` brings it (104 MB).

    Example:
        >>> molecules = qm9(size=100)  # doctest: +SKIP
        >>> tuple(molecules.features.shape), tuple(molecules.targets.shape)  # doctest: +SKIP
        ((100, 39), (100, 12))

    References:
        Ramakrishnan et al., "Quantum chemistry structures and properties of 134 kilo molecules", Scientific Data 2014.
        Rupp et al., "Fast and accurate modeling of molecular atomization energies", Physical Review Letters 2012: the
        Coulomb matrix.
    """
    if not 1 <= size <= _SIZE:
        rule = f"`size` must be between 1 and {_SIZE:,}, the number of molecules."
        raise InputError(explain(rule, f"It is {size!r}.", "Ask for fewer."))
    data = folder("qm9pack", extra="molecules") / "data"
    chosen = torch.zeros(_SIZE, dtype=torch.bool)
    chosen[torch.randperm(_SIZE, generator=torch.Generator().manual_seed(seed))[:size]] = True
    rows = list(_rows(data, chosen))
    counts = [_counts(row) for row in rows]
    spectra = cast("Tensor", torch.linalg.eigvalsh(torch.stack([_coulomb(row) for row in rows])))
    # By size: the zeros of small molecules come last, wherever the negative eigenvalues are.
    order = spectra.abs().argsort(dim=1, descending=True)
    return MultiTarget(
        torch.cat([torch.tensor(counts), spectra.gather(1, order).float()], 1),
        torch.tensor([[float(row[column]) for column in _TARGETS.values()] for row in rows]),
        (*_ELEMENTS, *_SYMBOLS, *(f"Coulomb eigenvalue {i + 1}" for i in range(_ATOMS))),
        tuple(_TARGETS),
    )


def _rows(data: Path, chosen: Tensor) -> Iterator[dict[str, str]]:
    keep = iter(cast("list[bool]", chosen.tolist()))
    for part in (1, 2, 3):
        with (data / f"qm9_part{part}.csv").open(encoding="utf-8") as stream:
            header = next(csv.reader(stream))
            # Only the lines that are kept are parsed.
            yield from csv.DictReader((line for line in stream if next(keep)), header)


def _counts(row: dict[str, str]) -> list[float]:
    atoms = _atoms(row)
    return [float(atoms.count(e)) for e in _ELEMENTS] + [float(row["SMILES"].count(s)) for s in _SYMBOLS.values()]


def _coulomb(row: dict[str, str]) -> Tensor:
    places = torch.tensor(cast("list[list[float]]", json.loads(row["XYZ_Ang"])), dtype=torch.float64) / _BOHR
    charge = torch.tensor([float(_ELEMENTS[e]) for e in _atoms(row)], dtype=torch.float64)
    distance = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(1)
    n = len(charge)
    matrix = torch.zeros(_ATOMS, _ATOMS, dtype=torch.float64)
    matrix[:n, :n] = charge[:, None] * charge / distance
    matrix[:n, :n].diagonal().copy_(0.5 * charge**2.4)
    return matrix


def _atoms(row: dict[str, str]) -> list[str]:
    return cast("list[str]", json.loads(row["Elements"].replace("'", '"')))
