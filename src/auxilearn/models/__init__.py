"""The networks of the experiments: ordinary modules whose initial weights are a function of a seed.

>>> import torch
>>> from auxilearn.models import MLP, ConvNet, StackedConvNet
>>> tuple(MLP(64, outputs=10, seed=0)(torch.zeros(5, 8, 8)).shape)
(5, 10)
>>> tuple(ConvNet(outputs=10, seed=0)(torch.zeros(5, 14, 14)).shape)
(5, 10)
>>> net = StackedConvNet(seeds=[0, 1], models=3, outputs=10)
>>> tuple(net(torch.zeros(5, 2, 14, 14)).shape)
(2, 3, 5, 10)
"""

from auxilearn.models._conv_four_heads import ConvFourHeads
from auxilearn.models._conv_net import ConvNet
from auxilearn.models._mlp import MLP
from auxilearn.models._resnet_heads import ResNetHeads
from auxilearn.models._seg_net import SegNet
from auxilearn.models._seg_net_split import SegNetSplit
from auxilearn.models._stacked_conv_net import StackedConvNet
from auxilearn.models._vgg_heads import VGG16Heads
from auxilearn.models._wide_resnet_heads import WideResNetHeads

__all__ = [
    "MLP",
    "ConvFourHeads",
    "ConvNet",
    "ResNetHeads",
    "SegNet",
    "SegNetSplit",
    "StackedConvNet",
    "VGG16Heads",
    "WideResNetHeads",
]
