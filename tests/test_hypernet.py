"""The original package's networks: its names, arguments and numbers, without its faults."""

import copy
import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.parametrize import is_parametrized
from torch.testing import assert_close

from auxilearn import hypernet
from auxilearn.errors import InputError
from auxilearn.hypernet import (
    HyperNet,
    Identity,
    LinearHyperNet,
    MonoHyperNet,
    MonoLinearHyperNet,
    MonoNoFCCNNHyperNet,
    MonoNonlinearHyperNet,
    NoFCCNNHyperNet,
    NonlinearHyperNet,
)
from support import DEVICE, DTYPE

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5} if DTYPE.itemsize >= 4 else {"rtol": 3e-2, "atol": 3e-2}
NETS = {
    "linear": lambda **kw: LinearHyperNet(0, 3, **kw),
    "mono-linear": lambda **kw: MonoLinearHyperNet(0, 3, skip_connection=True, **kw),
    "nonlinear": lambda **kw: NonlinearHyperNet(0, 3, hidden_sizes=[4, 2], **kw),
    "mono-nonlinear": lambda **kw: MonoNonlinearHyperNet(0, 3, hidden_sizes=3, **kw),
    "conv": lambda **kw: NoFCCNNHyperNet(0, **kw),
    "mono-conv": lambda **kw: MonoNoFCCNNHyperNet(0, **kw),
}
MONO = [name for name in NETS if name.startswith("mono")]
NORMS = [False, True]


@pytest.fixture(autouse=True)
def _one_thread():
    # Hand-over between threads takes a hundred times longer than these tiny tensors.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(name, norm, dtype=DTYPE, **options):
    torch.manual_seed(0)
    return NETS[name](weight_normalization=norm, **options).to(DEVICE, dtype)


def draw(name, dtype=DTYPE, batch=4):
    shape = (batch, 3, 8, 8) if "conv" in name else (batch, 3)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype)


def layers(net):
    return [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]


def set_weight(layer, value):
    """Set the weight that is used, whether or not it is a product."""
    with torch.no_grad():
        if is_parametrized(layer, "weight"):
            layer.weight = value
        else:
            layer.weight.copy_(value)


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (HyperNet, "main_task, input_dim"),
        (MonoHyperNet, "main_task, input_dim, clamp_bias=False"),
        (LinearHyperNet, "main_task, input_dim, skip_connection=False, init_value=1.0, weight_normalization=True"),
        (
            MonoLinearHyperNet,
            "main_task, input_dim, skip_connection=False, clamp_bias=False, init_value=1.0, weight_normalization=True",
        ),
        (
            NonlinearHyperNet,
            "main_task, input_dim, hidden_sizes=1, nonlinearity=None, bias=True, dropout_rate=0.0, init_upper=None, "
            "init_lower=None, weight_normalization=True",
        ),
        (
            MonoNonlinearHyperNet,
            "main_task, input_dim, hidden_sizes=1, nonlinearity=None, bias=True, dropout_rate=0.0, init_upper=None, "
            "init_lower=None, weight_normalization=True",
        ),
        (
            NoFCCNNHyperNet,
            "main_task, reduction='mean', input_channels=3, init_upper=0.1, init_lower=0.0, weight_normalization=False",
        ),
        (
            MonoNoFCCNNHyperNet,
            "main_task, reduction='mean', init_upper=0.1, init_lower=0.0, input_channels=3, weight_normalization=False",
        ),
        (HyperNet.forward, "self, losses, outputs=None, labels=None, data=None"),
        (LinearHyperNet.forward, "self, losses, outputs=None, labels=None, data=None"),
        (NonlinearHyperNet.forward, "self, losses, outputs=None, labels=None, data=None"),
        (NoFCCNNHyperNet.forward, "self, losses, outputs=None, labels=None, data=None"),
    ],
)
def test_arguments_are_the_originals(cls, arguments):
    found = [p.replace(annotation=p.empty) for p in inspect.signature(cls).parameters.values()]
    assert ", ".join(str(p) for p in found) == arguments


def test_all_nine_names_are_there():
    assert len(hypernet.__all__) == 9
    assert all(hasattr(hypernet, name) for name in hypernet.__all__)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cls", [LinearHyperNet, MonoLinearHyperNet])
def test_linear_is_the_weighted_sum(cls, norm):
    losses = draw("linear")
    net = cls(1, 3, init_value=0.5, weight_normalization=norm).to(DEVICE, DTYPE)
    assert_close(net(losses), 0.5 * losses.sum(1).mean())
    skipping = cls(1, 3, skip_connection=True, weight_normalization=norm).to(DEVICE, DTYPE)
    assert_close(skipping(losses, None, labels=None, data=None), losses.sum(1).mean() + losses[:, 1].mean())
    assert net.input_dim == 3  # the original stored `main_task`
    assert cls(None, 3).main_task is None


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cls", [NonlinearHyperNet, MonoNonlinearHyperNet])
def test_nonlinear_is_a_softplus_network_plus_the_main_loss(cls, norm):
    net = cls(2, 3, hidden_sizes=[4, 2], weight_normalization=norm).to(DEVICE, DTYPE)
    for p in net.parameters():
        p.data += 0.1
    first, second, head = layers(net)
    losses = hidden = draw("nonlinear")
    for layer in (first, second):
        hidden = F.softplus(hidden @ layer.weight.T + layer.bias)
    assert_close(net(losses), (hidden @ head.weight.T).mean() + losses[:, 2].mean(), **TOLERANCE)
    assert head.bias is None


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("cls", "channels"), [(NoFCCNNHyperNet, [8, 16, 32, 1]), (MonoNoFCCNNHyperNet, [8, 16, 1])])
def test_conv_is_the_network_of_the_paper_plus_the_main_loss(cls, channels, norm):
    torch.manual_seed(0)
    net = cls(1, input_channels=2, weight_normalization=norm).to(DEVICE, DTYPE)
    for p in net.parameters():
        p.data += 0.1
    losses = image = draw("conv")[:, :2]
    *body, head = layers(net)
    for layer in body:
        image = F.avg_pool2d(F.softplus(F.conv2d(image, layer.weight, layer.bias, padding=1)), 2)
    image = F.conv2d(image, head.weight)  # without the padding of the original
    assert image.shape[2:] == (8 >> len(body), 8 >> len(body))
    assert_close(net(losses), image.mean() + losses[:, 1].mean(), **TOLERANCE)
    assert [layer.out_channels for layer in [*body, head]] == channels
    assert head.bias is None
    assert net.input_dim == 2


@pytest.mark.parametrize("cls", [NoFCCNNHyperNet, MonoNoFCCNNHyperNet])
def test_main_loss_of_images_is_a_mean_a_sum_or_left_out(cls):
    found = {}
    for main, reduction in ((None, "mean"), (1, "mean"), (1, "sum")):
        torch.manual_seed(0)
        found[main, reduction] = cls(main, reduction).to(DEVICE).double()(draw("conv", torch.float64))
    main = draw("conv", torch.float64)[:, 1]
    assert_close(found[1, "mean"] - found[None, "mean"], main.mean())
    assert_close(found[1, "sum"] - found[None, "mean"], main.sum((1, 2)).mean())


def test_weights_are_drawn_as_in_the_original():
    torch.manual_seed(3)
    first, head = nn.Linear(3, 4), nn.Linear(4, 1, bias=False)  # each draws its default weights first
    torch.manual_seed(3)
    nn.Linear(3, 4)
    nn.init.uniform_(first.weight, 0.2, 0.7)
    nn.Linear(4, 1, bias=False)
    nn.init.uniform_(head.weight, 0.2, 0.7)
    for cls in (NonlinearHyperNet, MonoNonlinearHyperNet):
        torch.manual_seed(3)
        found = layers(cls(0, 3, 4, init_upper=0.7, init_lower=0.2))
        assert_close(found[0].weight, first.weight)
        assert_close(found[1].weight, head.weight)
        assert not found[0].bias.any()


@pytest.mark.parametrize("norm", NORMS)
def test_ranges_of_weights(norm):
    for cls in (NonlinearHyperNet, MonoNonlinearHyperNet):
        for layer in layers(cls(0, 3, [50, 50], weight_normalization=norm)):
            assert layer.weight.min() >= 0
            assert 0.8 < layer.weight.max() <= 1.001
    *body, head = layers(NoFCCNNHyperNet(0, weight_normalization=norm))
    assert all(layer.weight.max() <= 0.1001 for layer in body)
    assert head.weight.max() > 0.5  # the original forgot to pass its range on
    assert all(layer.weight.max() <= 0.1001 for layer in layers(MonoNoFCCNNHyperNet(0, weight_normalization=norm)))


@pytest.mark.parametrize("nonlinearity", [Identity(), nn.Identity()])
def test_identity_leaves_the_monotone_network_without_biases(nonlinearity):
    net = MonoNonlinearHyperNet(0, 3, 4, nonlinearity=nonlinearity)
    assert net.bias is False
    assert all(layer.bias is None for layer in layers(net))
    assert layers(NonlinearHyperNet(0, 3, 4, nonlinearity=nonlinearity))[0].bias is not None
    assert layers(NonlinearHyperNet(0, 3, 4, bias=False))[0].bias is None
    assert torch.equal(Identity("any", arguments=True)(torch.ones(2)), torch.ones(2))


def test_dropout_and_own_activation():
    net = NonlinearHyperNet(0, 3, 64, nonlinearity=nn.ReLU(), dropout_rate=0.5)
    losses = torch.ones(2, 3)
    assert net(losses) != net(losses)
    net.eval()
    assert net(losses) == net(losses)


def test_checkpoints_of_the_original_load():
    # The keys of its weight norm, and of its three kinds of network.
    net = MonoLinearHyperNet(0, 2)
    net.load_state_dict({"linear.weight_g": torch.tensor([[5.0]]), "linear.weight_v": torch.tensor([[3.0, 4.0]])})
    assert_close(net.linear.weight, torch.tensor([[3.0, 4.0]]))
    copied = copy.deepcopy(net)  # keeps that ability
    copied.load_state_dict({"linear.weight_g": torch.tensor([[10.0]]), "linear.weight_v": torch.tensor([[3.0, 4.0]])})
    assert_close(copied.linear.weight, torch.tensor([[6.0, 8.0]]))

    keys = {"net.0.weight", "net.0.bias", "net.3.weight", "net.3.bias", "net.6.weight"}
    assert set(NonlinearHyperNet(0, 3, [4, 2], weight_normalization=False).state_dict()) == keys
    keys = {"conv.0.weight", "conv.0.bias", "conv.3.weight", "conv.3.bias", "conv.6.weight"}
    assert set(MonoNoFCCNNHyperNet(0).state_dict()) == keys


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETS)
def test_a_call_does_not_touch_the_losses(name, norm):
    losses = draw(name)
    before = losses.clone()
    make(name, norm)(losses)
    assert torch.equal(losses, before)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETS)
def test_copies_restores_and_works_functionally(name, norm):
    net, losses = make(name, norm), draw(name)
    expected = net(losses)
    assert torch.equal(copy.deepcopy(net)(losses), expected)
    torch.manual_seed(99)
    other = NETS[name](weight_normalization=norm).to(DEVICE, DTYPE)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(losses), expected)
    moved = {k: p + 0.5 for k, p in net.named_parameters()}
    assert not torch.equal(functional_call(net, moved, (losses,)), expected)
    assert torch.equal(net(losses), expected)
    assert [id(p) for p in net.get_weights()] == [id(p) for p in net.parameters()]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETS)
def test_is_twice_differentiable(name, norm):
    net, losses = make(name, norm, torch.float64), draw(name, torch.float64, batch=2).requires_grad_()
    names, params = zip(*net.named_parameters(), strict=True)

    def combined(x, *values):
        return functional_call(net, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(combined, (losses, *params), fast_mode=True)
    assert torch.autograd.gradgradcheck(combined, (losses, *params), fast_mode=True)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MONO)
@pytest.mark.parametrize("seed", range(3))
def test_clamp_makes_it_increasing(name, norm, seed):
    net, losses = make(name, norm), draw(name).requires_grad_()
    torch.manual_seed(seed)
    for layer in layers(net):
        set_weight(layer, torch.randn_like(layer.weight))
    net.clamp()
    assert all((layer.weight >= 0).all() for layer in layers(net))
    (slopes,) = torch.autograd.grad(net(losses), losses)
    assert (slopes >= 0).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MONO)
def test_clamp_with_all_weights_negative_gives_zero_not_nan(name, norm):
    net, losses = make(name, norm), draw(name)
    for layer in layers(net):
        set_weight(layer, -torch.rand_like(layer.weight) - 0.1)
    for _ in range(2):  # the second call finds zeros
        net.clamp()
        assert all(not layer.weight.any() for layer in layers(net))
    optimizer = torch.optim.SGD(net.get_weights(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        (-net(losses)).backward()  # asks for larger weights
        assert all(p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
        net.clamp()
    assert net(losses).isfinite()
    assert all(p.isfinite().all() for p in net.parameters())
    assert layers(net)[-1].weight.any()  # and gets them


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    length=st.lists(st.sampled_from([-2.0, -0.5, 0.0, 1.0, 3.0]), min_size=2, max_size=2),
    direction=st.lists(st.sampled_from([-3.0, -1.0, 0.0, 0.5, 2.0]), min_size=6, max_size=6),
)
def test_clamp_cuts_the_weights_that_are_used(length, direction):
    layer = layers(MonoNonlinearHyperNet(0, 3, 2).double())[0]
    factors = layer.parametrizations["weight"]
    factors.original0.data.copy_(torch.tensor(length)[:, None])
    factors.original1.data.copy_(torch.tensor(direction).view(2, 3))
    before = factors.original0.detach().clone(), factors.original1.detach().clone()
    weight = layer.weight.detach().nan_to_num()  # 0/0 for a direction of length 0

    class Net(MonoHyperNet):
        def forward(self, losses, outputs=None, labels=None, data=None):
            return self.layer(losses).sum()

    net = Net(None, 3)
    net.layer = layer
    net.clamp()
    assert_close(layer.weight, weight.clamp(min=0))
    after = factors.original0.detach(), factors.original1.detach()
    assert (after[1].norm(dim=1) > 0).all()
    for row in range(2):
        if (weight[row] >= 0).all() and length[row] and weight[row].any():
            assert torch.equal(after[0][row], before[0][row])
            assert torch.equal(after[1][row], before[1][row])
    net.clamp()
    assert torch.equal(factors.original0, after[0])
    assert torch.equal(factors.original1, after[1])


def test_clamp_works_in_any_memory_format():
    net = MonoNoFCCNNHyperNet(0, weight_normalization=True).to(memory_format=torch.channels_last)
    for layer in layers(net):
        set_weight(layer, torch.randn_like(layer.weight))
    net.clamp()
    assert all((layer.weight >= 0).all() for layer in layers(net))


@pytest.mark.parametrize("clamp_bias", [False, True])
def test_biases_are_clamped_on_demand(clamp_bias):
    net = MonoNonlinearHyperNet(0, 3, 4)
    net.clamp_bias = clamp_bias
    layers(net)[0].bias.data.copy_(torch.tensor([-1.0, 0.0, 1.0, -2.0]))
    net.clamp()
    assert layers(net)[0].bias.tolist() == ([0.0, 0.0, 1.0, 0.0] if clamp_bias else [-1.0, 0.0, 1.0, -2.0])


@pytest.mark.parametrize("cls", [LinearHyperNet, MonoLinearHyperNet])
def test_can_start_at_zero(cls):
    net = cls(0, 2, init_value=0.0)
    assert net(torch.ones(3, 2)) == 0
    net(torch.ones(3, 2)).backward()
    assert any(p.grad.any() for p in net.parameters())
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("build", [NonlinearHyperNet, MonoNonlinearHyperNet])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"main_task": 3}, r"`main_task` must be .* from 0 to 2\. It is 3"),
        ({"main_task": None}, "`main_task` .* It is None"),
        ({"input_dim": 0}, "`input_dim` must be an integer of at least 1"),
        ({"hidden_sizes": 0}, "`hidden_sizes"),
        ({"hidden_sizes": []}, "`hidden_sizes"),
        ({"hidden_sizes": "3"}, "`hidden_sizes"),
    ],
)
def test_nonlinear_refuses_wrong_arguments(build, arguments, message):
    with pytest.raises(InputError, match=message):
        build(**({"main_task": 0, "input_dim": 3} | arguments))


@pytest.mark.parametrize("build", [LinearHyperNet, MonoLinearHyperNet])
def test_linear_refuses_wrong_arguments(build):
    with pytest.raises(InputError, match="`main_task`"):
        build(None, 3, skip_connection=True)
    with pytest.raises(InputError, match="`input_dim`"):
        build(0, 1.5)


@pytest.mark.parametrize("build", [NoFCCNNHyperNet, MonoNoFCCNNHyperNet])
def test_conv_refuses_wrong_arguments(build):
    with pytest.raises(InputError, match="`reduction` must be one of 'mean', 'sum'"):
        build(0, reduction="none")
    with pytest.raises(InputError, match=r"`main_task` .* from 0 to 1"):
        build(2, input_channels=2)
    with pytest.raises(InputError, match="`input_channels`"):
        build(0, input_channels=0)


@pytest.mark.parametrize("name", NETS)
def test_refuses_wrong_losses(name):
    net, losses = make(name, True), draw(name)
    with pytest.raises(InputError, match="holds 2 losses"):
        net(losses[:, :2])
    with pytest.raises(InputError, match="Its shape is"):
        net(losses[0])
    losses[1, 2] = torch.nan
    with pytest.raises(InputError, match="Loss 2 is nan"):
        net(losses)


@pytest.mark.parametrize(("cls", "side"), [(NoFCCNNHyperNet, 8), (MonoNoFCCNNHyperNet, 4)])
def test_refuses_images_too_small_to_pool(cls, side):
    assert cls(0)(torch.ones(1, 3, side, side)).isfinite()
    with pytest.raises(InputError, match=rf"at least {side} pixels .* measure \({side}, {side - 1}\)"):
        cls(0)(torch.ones(1, 3, side, side - 1))
