"""DeepLabV3 is torchvision's, with several heads."""

from pathlib import Path

import pytest
import torch
from torchvision.models import resnet50
from torchvision.models.segmentation import deeplabv3_resnet50

from auxilearn.errors import InputError
from auxilearn.models import DeepLabHeads


@pytest.fixture(scope="module")
def net() -> DeepLabHeads:
    return DeepLabHeads([5, 1], seed=0)


def test_each_head_is_torchvisions_network(net: DeepLabHeads) -> None:
    with torch.random.fork_rng(devices=[]):
        whole = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=False).eval()
    whole.backbone.load_state_dict(net.body.state_dict())
    whole.classifier.load_state_dict(net.heads[0].state_dict())
    x = torch.randn(1, 3, 40, 52, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = net.eval()(x)
        torch.testing.assert_close(first, whole(x)["out"])
    assert second.shape == (1, 1, 40, 52)


def test_a_batch_of_one_is_refused_in_training(net: DeepLabHeads) -> None:
    with pytest.raises(InputError, match="at least two images"):
        net.train()(torch.zeros(1, 3, 32, 32))


def test_it_starts_from_a_published_file(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        published = resnet50(weights=None)
    torch.save(published.state_dict(), tmp_path / "resnet50.pth")
    net = DeepLabHeads([1], seed=0, pretrained=tmp_path / "resnet50.pth")
    assert torch.equal(net.body.layer4[2].conv3.weight, published.layer4[2].conv3.weight)


def test_other_backbones_are_told() -> None:
    with pytest.raises(InputError, match="`backbone` must be one of 'resnet50', 'resnet101'"):
        DeepLabHeads([1], seed=0, backbone="resnet18")  # type: ignore[arg-type]
