"""The networks of the experiments.

>>> import torch
>>> from auxilearn.models import StackedConvNet
>>> net = StackedConvNet(seeds=[0, 1], models=3, outputs=10)
>>> tuple(net(torch.zeros(5, 2, 14, 14)).shape)
(2, 3, 5, 10)
"""

from auxilearn.models._stacked_conv_net import StackedConvNet

__all__ = ["StackedConvNet"]
