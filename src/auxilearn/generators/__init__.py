r"""Label generators: modules that write the soft labels of a new auxiliary task, and the losses that learn from them.

==========================  ==================  ================================================================
generator                   reads               when
==========================  ==================  ================================================================
:class:`ConditionalLabels`  x and y             as in the papers: sub-classes of the sample's own class
:class:`InputLabels`        x                   samples without a main label can be labelled, too
:class:`PooledLabels`       opinions about x    little data: a weight for each opinion, hardly anything to overfit
==========================  ==================  ================================================================

A generator is trained like a combiner: its labels enter the train loss, its parameters are the auxiliary ones.

>>> import torch
>>> from torch import nn
>>> from auxilearn import hypergradient
>>> from auxilearn.generators import ConditionalLabels, Hierarchy, soft_focal_loss
>>> x, y = torch.randn(8, 4), torch.arange(8) % 2
>>> hierarchy = Hierarchy.even(2, 3)  # two main classes of three sub-classes each
>>> student = nn.Linear(4, 2 + hierarchy.num_subclasses)  # a main head and an auxiliary head
>>> teacher = ConditionalLabels(nn.Linear(4, hierarchy.num_subclasses), hierarchy)
>>> main, auxiliary = student(x).split([2, hierarchy.num_subclasses], 1)
>>> main_loss = nn.functional.cross_entropy(main, y)
>>> train_loss = main_loss + soft_focal_loss(auxiliary, teacher(x, y)).mean()
>>> found = hypergradient(train_loss, main_loss, params=student.parameters(), aux_params=teacher.parameters())
>>> [tuple(g.shape) for g in found.grads]
[(6, 4), (6,)]
"""

from auxilearn.generators._base import LabelGenerator
from auxilearn.generators._collapse import collapse_penalty
from auxilearn.generators._conditional import ConditionalLabels
from auxilearn.generators._hierarchy import Hierarchy
from auxilearn.generators._input import InputLabels
from auxilearn.generators._masked_softmax import masked_softmax
from auxilearn.generators._pooled import PooledLabels
from auxilearn.generators._soft_losses import soft_cross_entropy, soft_focal_loss

__all__ = [
    "ConditionalLabels",
    "Hierarchy",
    "InputLabels",
    "LabelGenerator",
    "PooledLabels",
    "collapse_penalty",
    "masked_softmax",
    "soft_cross_entropy",
    "soft_focal_loss",
]
