r"""Loss combiners: modules that turn the losses of all tasks into the one scalar that is trained on.

======================  ==========================  =========================================================
combiner                losses                      when
======================  ==========================  =========================================================
:class:`Linear`         (K,), (B, K), (B, K, H, W)  start here: one weight for each task, readable
:class:`DeepLinear`     (K,), (B, K), (B, K, H, W)  many tasks that may share what helps
:class:`Bent`           (K,), (B, K)                labels that are right for some samples and wrong for others
:class:`MLP`            (K,), (B, K)                the same, and losses that say something about each other
:class:`Conv`           (B, K, H, W)                weights that depend on the pixel, e.g. segmentation
:class:`Standardized`   those of what it wraps      always, unless the losses have one scale already
======================  ==========================  =========================================================

All of them are monotone by parametrisation: no loss is ever rewarded for growing, whatever an optimizer does, and there
is nothing to clamp (``Linear(monotone=False)`` is the exception). All start as the plain sum of the losses, at
parameters of 0, so that weight decay shrinks toward equal weights. All can be differentiated twice, copied, saved, and
called through ``torch.func.functional_call``. Write your own as a subclass of :class:`LossCombiner`, with weights from
:class:`Positive`.

>>> import torch
>>> from auxilearn.combiners import Linear, Standardized
>>> combiner = Standardized(Linear(num_losses=3, main=0))
>>> losses = torch.tensor([[0.5, 2.0, 90.0], [1.5, 4.0, 110.0]])  # (B, K): one row for each sample
>>> combiner(losses)  # 3 standardised losses, and the main one once more
tensor(4., grad_fn=<AddBackward0>)
>>> combiner.scale
tensor([  1.,   3., 100.])
>>> combiner.combiner.weights
tensor([1., 1., 1.])
"""

from auxilearn.combiners._base import LossCombiner
from auxilearn.combiners._bent import Bent
from auxilearn.combiners._conv import Conv
from auxilearn.combiners._deep_linear import DeepLinear
from auxilearn.combiners._linear import Linear
from auxilearn.combiners._mlp import MLP
from auxilearn.combiners._positive import Positive
from auxilearn.combiners._standardize import Standardized

__all__ = ["MLP", "Bent", "Conv", "DeepLinear", "Linear", "LossCombiner", "Positive", "Standardized"]
