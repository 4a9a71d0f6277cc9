"""The networks of the experiments: ordinary modules whose initial weights are a function of a seed.

Those with several heads return a tuple with the raw outputs of each. Their body and each head have a seed of their own,
so that an auxiliary task changes nothing in the initial weights of the others.

=========================  ==========================  ================================================
network                    input                       outputs
=========================  ==========================  ================================================
:class:`MLP`               any                         all heads in one layer
:class:`ConvNet`           small grey images           all heads in one layer
:class:`StackedConvNet`    small grey images           the same, of many networks at once
:class:`SegNet`            images                      every pixel, all heads in one layer; small
:class:`SegNetSplit`       images                      every pixel, one head a task
:class:`SegNetMTAN`        images                      every pixel, one attention network a task
:class:`DeepLabHeads`      images                      every pixel, one head a task; needs torchvision
:class:`ResNetHeads`       images                      one head a task; needs torchvision
:class:`WideResNetHeads`   32 × 32 images              one head a task
:class:`VGG16Heads`        32 × 32 images              one head a task
:class:`ConvFourHeads`     32 × 32 images              one head a task
:class:`PointHeads`        clouds of points, category  every point, one head a task
=========================  ==========================  ================================================

>>> import torch
>>> from auxilearn.models import MLP, ConvNet, StackedConvNet
>>> tuple(MLP(64, outputs=10, seed=0)(torch.zeros(5, 8, 8)).shape)
(5, 10)
>>> tuple(ConvNet(outputs=10, seed=0)(torch.zeros(5, 14, 14)).shape)
(5, 10)
>>> net = StackedConvNet(seeds=[0, 1], models=3, outputs=10)
>>> tuple(net(torch.zeros(5, 2, 14, 14)).shape)
(2, 3, 5, 10)
>>> from auxilearn.models import SegNetSplit
>>> segmentation, depth = SegNetSplit([13, 1], seed=0, widths=(4, 8))(torch.zeros(5, 3, 8, 12))
>>> tuple(segmentation.shape)
(5, 13, 8, 12)
"""

from auxilearn.models._conv_four_heads import ConvFourHeads
from auxilearn.models._conv_net import ConvNet
from auxilearn.models._deep_lab_heads import DeepLabHeads
from auxilearn.models._mlp import MLP
from auxilearn.models._point_heads import PointHeads
from auxilearn.models._resnet_heads import ResNetHeads
from auxilearn.models._seg_net import SegNet
from auxilearn.models._seg_net_mtan import SegNetMTAN
from auxilearn.models._seg_net_split import SegNetSplit
from auxilearn.models._stacked_conv_net import StackedConvNet
from auxilearn.models._vgg_heads import VGG16Heads
from auxilearn.models._wide_resnet_heads import WideResNetHeads

__all__ = [
    "MLP",
    "ConvFourHeads",
    "ConvNet",
    "DeepLabHeads",
    "PointHeads",
    "ResNetHeads",
    "SegNet",
    "SegNetMTAN",
    "SegNetSplit",
    "StackedConvNet",
    "VGG16Heads",
    "WideResNetHeads",
]
