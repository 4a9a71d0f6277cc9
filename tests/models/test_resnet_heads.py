"""ResNets are torchvision's, and read its files."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from auxilearn.errors import InputError, MissingExtraError
from auxilearn.models import ResNetHeads


@pytest.fixture(scope="module")
def published() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(7)
        net = resnet18(weights=None)
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean = torch.randn(layer.num_features)
    return net.eval()


def saved(file: Path, state: object) -> Path:
    torch.save(state, file)
    return file


def test_a_published_file_gives_its_features(published: nn.Module, tmp_path: Path) -> None:
    file = saved(tmp_path / "resnet18.pth", published.state_dict())
    net = ResNetHeads([1000, 4], seed=0, pretrained=file).eval()
    net.heads[0].load_state_dict(published.fc.state_dict())
    x = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    found, other = net(x)
    assert torch.equal(found, published(x))
    assert other.shape == (2, 4)
    # The heads do not hear of the file.
    assert torch.equal(net.heads[1].weight, ResNetHeads([1000, 4], seed=0).heads[1].weight)


def test_a_file_without_the_classifier_or_counts_is_read_too(published: nn.Module, tmp_path: Path) -> None:
    state = {k: v for k, v in published.state_dict().items() if not k.startswith("fc.") and "num_batches" not in k}
    net = ResNetHeads([2], seed=0, pretrained=saved(tmp_path / "a.pth", state))
    assert torch.equal(net.body.conv1.weight, published.conv1.weight)


def test_a_wrong_file_is_told(published: nn.Module, tmp_path: Path) -> None:
    state: dict[str, Tensor] = published.state_dict()
    less = {k: v for k, v in state.items() if k != "conv1.weight"}
    more = {**state, "layer9.weight": torch.zeros(1)}
    narrow = {**state, "bn1.weight": torch.ones(3)}
    broken = {**state, "bn1.weight": torch.full((64,), torch.nan)}
    for bad, finding in [
        (less, "1 tensors are missing, e.g. `conv1.weight`"),
        (more, "1 tensors are not of this network, e.g. `layer9.weight`"),
        (narrow, "1 tensors are of another shape, e.g. `bn1.weight`"),
        (broken, "`bn1.weight` is not"),
        ([1, 2], "holds something else"),
        ({"epoch": 3}, "holds something else"),
    ]:
        with pytest.raises(InputError, match=finding):
            ResNetHeads([2], seed=0, pretrained=saved(tmp_path / "bad.pth", bad))
    with pytest.raises(InputError, match="There is no file"):
        ResNetHeads([2], seed=0, pretrained=tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(InputError, match="cannot be read"):
        ResNetHeads([2], seed=0, pretrained=tmp_path / "text.pth")


def test_fifty_layers_have_their_width_and_a_head_may_have_a_hidden_layer() -> None:
    net = ResNetHeads([5], seed=0, depth=50, hidden=512).eval()
    assert sum(p.numel() for p in net.body.parameters()) == 25_557_032 - 2_049_000  # as torchvision documents, less fc
    assert [tuple(p.shape) for p in net.heads.parameters()] == [(512, 2048), (512,), (5, 512), (5,)]
    assert net(torch.zeros(1, 3, 32, 32))[0].shape == (1, 5)


def test_other_depths_are_told() -> None:
    with pytest.raises(InputError, match="`depth` must be one of 18, 50"):
        ResNetHeads([2], seed=0, depth=34)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`hidden` must be an integer"):
        ResNetHeads([2], seed=0, hidden=0)


def test_without_torchvision_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(MissingExtraError, match=r"auxilearn\[reproduce\]"):
        ResNetHeads([2], seed=0)
