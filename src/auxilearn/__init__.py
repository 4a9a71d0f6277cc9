r"""auxilearn learns which auxiliary losses help a main task, and how to combine them, while training.

The engine knows three words: a curvature operator (``H @ v``), a solver (``solve(H, v)``) and the hypergradient

.. math:: \frac{d L_A}{d\varphi} = \partial_\varphi L_A
    - (\partial_\varphi \partial_W L_T)^\top (\partial_W^2 L_T)^{-1} \partial_W L_A .

Everything with weights is an ordinary ``nn.Module`` that the engine has never heard of. Most users need one class,
:class:`auxilearn.optim.MetaOptimizer`.

>>> import torch
>>> from auxilearn import hypergradient
>>> w, phi = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
>>> hypergradient(((w - phi) ** 2).sum(), (w**2).sum(), params=[w], aux_params=[phi]).grads[0].item()
2.0
"""

from auxilearn._vectors import Vector
from auxilearn.bilevel import BilevelProblem
from auxilearn.implicit import Hypergradient, hypergradient
from auxilearn.optim import MetaOptimizer
from auxilearn.penalty import Penalized, PenaltyMethod, penalized
from auxilearn.scoring import Usefulness, usefulness
from auxilearn.unrolling import Unrolled, unrolled
from auxilearn.verification import HypergradientCheck, check_hypergradient

__all__ = [
    "BilevelProblem",
    "Hypergradient",
    "HypergradientCheck",
    "MetaOptimizer",
    "Penalized",
    "PenaltyMethod",
    "Unrolled",
    "Usefulness",
    "Vector",
    "check_hypergradient",
    "hypergradient",
    "penalized",
    "unrolled",
    "usefulness",
]
