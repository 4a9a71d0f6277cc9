"""Tables with several targets are whole, and their features mean what they say."""

import sys
from importlib.util import find_spec

import pytest
import torch

from auxilearn.data import MultiTarget, qm9, solar_flare
from auxilearn.errors import InputError, MissingExtraError


def column(table: MultiTarget, name: str) -> torch.Tensor:
    return table.features[:, table.feature_names.index(name)]


# 104 MB that most who run the tests do not want.
molecules_only = pytest.mark.skipif(find_spec("qm9pack") is None, reason="needs the extra molecules")


def test_flares_are_whole() -> None:
    flares = solar_flare()
    assert flares.features.shape == (1066, len(flares.feature_names)) == (1066, 23)
    assert flares.targets.sum(0).tolist() == [320, 50, 6]
    for first, last in ((0, 6), (6, 12), (12, 16)):  # each category is exactly one of its values
        assert (flares.features[:, first:last].sum(1) == 1).all()
    assert column(flares, "zurich-class=H").sum() == 331


@molecules_only
def test_molecules_are_a_draw_of_the_whole_set() -> None:
    few, again, other = qm9(size=200), qm9(size=200), qm9(size=200, seed=1)
    assert few is again
    assert not torch.equal(few.features, other.features)
    assert few.features.shape == (200, len(few.feature_names))
    assert few.targets.shape == (200, len(few.target_names))
    assert few.features.isfinite().all()
    assert few.targets.isfinite().all()


@molecules_only
def test_the_gap_is_the_difference_of_the_orbitals_and_features_predict_the_energy() -> None:
    molecules = qm9(size=200)
    gap, homo, lumo = (molecules.targets[:, i] for i in range(3))
    torch.testing.assert_close(gap, lumo - homo, atol=2e-4, rtol=0)
    # The energy is almost a sum over atoms: a linear fit on the five counts explains it, so rows fit together.
    counts = torch.cat([molecules.features[:, :5], torch.ones(200, 1)], 1).double()
    energy = molecules.targets[:, molecules.target_names.index("internal energy")].double()
    rest = energy - counts @ torch.linalg.lstsq(counts, energy[:, None]).solution[:, 0]
    assert float(rest.var() / energy.var()) < 1e-4
    heavy = sum(column(molecules, e) for e in ("C", "N", "O", "F"))
    assert heavy.max() <= 9


@molecules_only
def test_coulomb_eigenvalues_sum_to_the_trace_and_are_sorted() -> None:
    molecules = qm9(size=200)
    spectra = molecules.features[:, -29:].double()
    charges = torch.tensor([1.0, 6.0, 7.0, 8.0, 9.0], dtype=torch.float64)
    trace = molecules.features[:, :5].double() @ (0.5 * charges**2.4)
    torch.testing.assert_close(spectra.sum(1), trace, rtol=1e-5, atol=0)
    assert (spectra.abs().diff(dim=1) <= 1e-4).all()


@pytest.mark.parametrize("size", [0, 130_832])
def test_a_size_out_of_range_is_told(size: int) -> None:
    with pytest.raises(InputError, match="`size` must be between 1 and 130,831"):
        qm9(size=size)


@pytest.mark.parametrize(("read", "package", "extra"), [(solar_flare, "river", "data"), (qm9, "qm9pack", "molecules")])
def test_a_missing_package_is_told(read: object, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    qm9.cache_clear()
    with pytest.raises(MissingExtraError, match=rf"needs the extra `{extra}`. `{package}` is not installed"):
        read()  # type: ignore[operator]
