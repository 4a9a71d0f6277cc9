r"""Loss weightings of the literature under one protocol, to compare with and to choose from.

==================================================  ==========================================  ==================
weighting                                           looks at                                    costs a step
==================================================  ==========================================  ==================
:class:`MainOnly`, :class:`Equal`,                  nothing                                     nothing
:class:`Constant`
:class:`Uncertainty`, :class:`IMTLL`,               the losses                                  nothing
:class:`DWA`, :class:`Scalarized`
:class:`FAMO`                                       the losses, before and after the step       a forward pass
:class:`GradNorm`                                   lengths of the gradients                    K backward passes
:class:`GCS`, :class:`OLAUX`                        gradients against the main one              K backward passes
:class:`MGDA`, :class:`PCGrad`, :class:`CAGrad`,    inner products of all gradients             K backward passes
:class:`IMTLG`, :class:`UPGrad`, :class:`NashMTL`,
:class:`Aggregated`
:class:`AutoLambda`, :class:`AuxiNash`              gradients, and the main loss on another     K + 1 backward
                                                    batch                                       passes
==================================================  ==========================================  ==================

Only :class:`MainOnly`, :class:`Equal`, :class:`GCS`, :class:`OLAUX`, :class:`AutoLambda` and :class:`AuxiNash` know
which loss is the main one; the others balance all of them. None looks through the trained network, as a learned
combiner with :class:`~auxilearn.MetaOptimizer` does. Defaults are those of the papers where they have any; each class
says where it deviates. Those that come from `TorchJD <https://torchjd.org>`_ need the extra ``experiments``; they are
:class:`Uncertainty`, :class:`IMTLL`, :class:`DWA`, :class:`FAMO`, :class:`MGDA`, :class:`PCGrad`, :class:`CAGrad`,
:class:`IMTLG`, :class:`UPGrad`, :class:`Scalarized` and :class:`Aggregated`.

A training loop prepares a weighting, asks it for the weights of each step, and tells it when the network has moved:

>>> import torch
>>> from auxilearn.weighting import GCS, Step
>>> model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
>>> x, y = torch.randn(8, 2), torch.randn(8, 3)
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
>>> losses = lambda: (model(x) - y).square().mean(0)  # (K,), the main one first
>>> weighting = GCS()
>>> weighting.prepare(num_losses=3, main=0, steps=20)
>>> for number in range(20):
...     step = Step(losses(), tuple(model.parameters()), number=number, main=0, learning_rate=0.1)
...     weights = weighting.weights(step)
...     optimizer.zero_grad()
...     (weights * step.losses).sum().backward()
...     optimizer.step()
...     weighting.after(step, losses)
>>> float(weights[0])
1.0
"""

from auxilearn.weighting._aggregated import Aggregated, AggregatedWeighting
from auxilearn.weighting._aggregators import IMTLG, MGDA, CAGrad, PCGrad, UPGrad
from auxilearn.weighting._auto_lambda import AutoLambda
from auxilearn.weighting._base import Weighting
from auxilearn.weighting._constant import Constant, Equal, MainOnly
from auxilearn.weighting._gcs import GCS
from auxilearn.weighting._grad_norm import GradNorm
from auxilearn.weighting._learned import LearnedWeighting
from auxilearn.weighting._nash import AuxiNash, NashMTL
from auxilearn.weighting._olaux import OLAUX
from auxilearn.weighting._scalarized import Scalarized, ScalarizedWeighting
from auxilearn.weighting._scalarizers import DWA, FAMO, IMTLL, Uncertainty
from auxilearn.weighting._step import Step

__all__ = [
    "DWA",
    "FAMO",
    "GCS",
    "IMTLG",
    "IMTLL",
    "MGDA",
    "OLAUX",
    "Aggregated",
    "AggregatedWeighting",
    "AutoLambda",
    "AuxiNash",
    "CAGrad",
    "Constant",
    "Equal",
    "GradNorm",
    "LearnedWeighting",
    "MainOnly",
    "NashMTL",
    "PCGrad",
    "Scalarized",
    "ScalarizedWeighting",
    "Step",
    "UPGrad",
    "Uncertainty",
    "Weighting",
]
