r"""Solvers of ``H x = v``: frozen settings with one verb, ``solve(H, v)``.

==========================  =====================  ===========================================================
solver                      products               when
==========================  =====================  ===========================================================
:class:`Identity`           0                      early training, weights of auxiliary losses
:class:`Neumann`            terms (+ 1 if auto)    the default: some curvature for a few products
:class:`ConjugateGradient`  up to max_steps        inner problems solved to convergence, positive curvature
:class:`Nystrom`            rank                   a few large eigenvalues and a flat rest
:class:`Dense`              number of parameters   the truth, for small problems
:class:`WarmStart`          those of its solver+1  slowly changing systems
:class:`SingleLoop`         1, never more          a new batch every call: the noise averages out over the calls
==========================  =====================  ===========================================================

Those with a loop take a ``preconditioner``: a diagonal, :class:`OptimizerMetric` or :class:`CurvatureSketch`.

>>> import torch
>>> from auxilearn import Vector
>>> from auxilearn.curvature import Hessian
>>> from auxilearn.solvers import ConjugateGradient
>>> w = torch.ones(2, requires_grad=True)
>>> solution = ConjugateGradient().solve(Hessian(w.square().sum(), [w]), Vector([torch.ones(2)]))
>>> solution.x.tensors[0].tolist(), solution.report.status.value
([0.5, 0.5], 'converged')
"""

from auxilearn.solvers._base import Iterate, IterativeSolver, LinearSolver, Solution, SolveReport, Status
from auxilearn.solvers._conjugate_gradient import ConjugateGradient
from auxilearn.solvers._curvature_sketch import CurvatureSketch
from auxilearn.solvers._dense import Dense
from auxilearn.solvers._identity import Identity
from auxilearn.solvers._metric import OptimizerMetric
from auxilearn.solvers._neumann import Neumann
from auxilearn.solvers._nystrom import Nystrom
from auxilearn.solvers._preconditioner import Metric, Preconditioner
from auxilearn.solvers._single_loop import SingleLoop
from auxilearn.solvers._warm_start import WarmStart

__all__ = [
    "ConjugateGradient",
    "CurvatureSketch",
    "Dense",
    "Identity",
    "Iterate",
    "IterativeSolver",
    "LinearSolver",
    "Metric",
    "Neumann",
    "Nystrom",
    "OptimizerMetric",
    "Preconditioner",
    "SingleLoop",
    "Solution",
    "SolveReport",
    "Status",
    "WarmStart",
]
