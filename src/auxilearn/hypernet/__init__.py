"""The auxiliary networks of the original package under their names, for code that was written for it.

Networks take ``forward(losses, outputs=None, labels=None, data=None)`` and use only the losses, ``(B, K)`` or, for the
convolutional ones, ``(B, K, H, W)``. Names, arguments and defaults are the original's; its state dictionaries load, and
the same seed draws the same weights. The ``Mono`` networks are monotone from one call of ``clamp()`` to the next step
of an optimizer, whose momentum goes on pointing outside; those of :mod:`auxilearn.combiners` always are, and are what
new code should use.

What differs from the original: networks with weight norm can be copied, and can neither start at nor be clamped to NaN;
``clamp()`` cuts the weights that are used, not their two factors one by one; the 1×1 convolutions have no padding,
which diluted borders; ``input_dim`` is the number of losses everywhere; losses that are NaN or of a wrong shape are
refused.

>>> import torch
>>> from auxilearn.hypernet import MonoLinearHyperNet
>>> net = MonoLinearHyperNet(main_task=0, input_dim=2)
>>> net(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
tensor(5., grad_fn=<MeanBackward0>)
>>> optimizer = torch.optim.SGD(net.get_weights(), lr=1.0)  # with auxilearn.optim.MetaOptimizer around it
>>> net.clamp()  # after each of its steps
"""

from auxilearn.hypernet._base import HyperNet, Identity, MonoHyperNet
from auxilearn.hypernet._conv import MonoNoFCCNNHyperNet, NoFCCNNHyperNet
from auxilearn.hypernet._linear import LinearHyperNet, MonoLinearHyperNet
from auxilearn.hypernet._nonlinear import MonoNonlinearHyperNet, NonlinearHyperNet

__all__ = [
    "HyperNet",
    "Identity",
    "LinearHyperNet",
    "MonoHyperNet",
    "MonoLinearHyperNet",
    "MonoNoFCCNNHyperNet",
    "MonoNonlinearHyperNet",
    "NoFCCNNHyperNet",
    "NonlinearHyperNet",
]
