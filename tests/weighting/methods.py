"""Every method once, with settings under which it does something within a few steps."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
from torchjd.aggregation import GradVacWeighting
from torchjd.scalarization import GeometricMean

from auxilearn.weighting import (
    DWA,
    FAMO,
    GCS,
    IMTLG,
    IMTLL,
    MGDA,
    OLAUX,
    Aggregated,
    AutoLambda,
    AuxiNash,
    CAGrad,
    Constant,
    Equal,
    GradNorm,
    MainOnly,
    NashMTL,
    PCGrad,
    Scalarized,
    Uncertainty,
    UPGrad,
    Weighting,
)

needs_cvxpy = pytest.mark.skipif(find_spec("cvxpy") is None, reason="TorchJD's extra cagrad is not installed")
needs_quadprog = pytest.mark.skipif(find_spec("quadprog") is None, reason="TorchJD's quadprog is not installed")

METHODS: dict[str, Callable[[], Weighting]] = {
    "main only": MainOnly,
    "equal": Equal,
    "gcs": GCS,
    "gcs weighted": lambda: GCS(weighted=True),
    "olaux": lambda: OLAUX(every=3),
    "grad norm": lambda: GradNorm(lr=0.05),
    "grad norm shared": lambda: GradNorm(on="shared", alpha=0.5),
    "auto lambda": lambda: AutoLambda(lr=0.01, every=2),
    "nash": NashMTL,
    "auxinash": lambda: AuxiNash(lr=0.1, every=3),
    "uncertainty": lambda: Uncertainty(lr=0.01),
    "imtl-l": lambda: IMTLL(),
    "dwa": lambda: DWA(epoch=4),
    "famo": FAMO,
    "geometric mean": lambda: Scalarized(GeometricMean()),
    "mgda": MGDA,
    "pcgrad": PCGrad,
    "imtl-g": IMTLG,
    "gradvac": lambda: Aggregated(GradVacWeighting(), stateful=True),
    "cagrad": CAGrad,
    "upgrad": UPGrad,
}
FIXED = ("main only", "equal")
"""Those whose weights never change."""
KNOWS_MAIN = ("main only", "equal", "gcs", "gcs weighted", "olaux", "auto lambda", "auxinash")
"""Those for which the losses are not all alike."""
NEEDS = {"cagrad": needs_cvxpy, "upgrad": needs_quadprog}

every_method = pytest.mark.parametrize("name", [pytest.param(n, marks=NEEDS.get(n, ())) for n in METHODS])


def constant(num_losses: int) -> Weighting:
    return Constant([1.0 / (k + 1) for k in range(num_losses)])
