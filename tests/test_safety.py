"""Outer passes: twice differentiable where torch allows it, refused by name where not, and without a trace."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 - its usual name
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

from auxilearn import hypergradient
from auxilearn._autograd import gradients
from auxilearn._second_order import naming_first_order_operators, refuse_wrong_second_derivatives
from auxilearn.curvature import FiniteDifference, Hessian
from auxilearn.errors import InputError, SecondOrderError
from auxilearn.safety import ReplayedRandomness, second_order
from auxilearn.solvers import Neumann
from support import DEVICE, DTYPE

CURE = r"second_order\(model\)`, which picks kernels that have one; .*FiniteDifference"


def made(module: nn.Module) -> nn.Module:
    return module.to(DEVICE, DTYPE)


def data(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(DEVICE, DTYPE)


def random_state() -> Tensor:
    return torch.cuda.get_rng_state() if DEVICE.type == "cuda" else torch.get_rng_state()


class Attention(nn.Module):
    """A layer that calls the fused kernel itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        query = self.inner(x)[:, None]
        return F.scaled_dot_product_attention(query, query, query)[:, 0]


class MultiHead(nn.Module):
    """Multi-head attention as transformers call it: without the weights, hence with the fused kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class Recurrent(nn.Module):
    """A recurrent network, of whose results the outputs are used."""

    def __init__(self, kind: type[nn.RNNBase], **settings: Any) -> None:
        super().__init__()
        self.inner = kind(8, 8, batch_first=True, **settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


def transformer_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)


ATTENTION: dict[str, Callable[[], nn.Module]] = {
    "scaled_dot_product_attention": Attention,
    "MultiheadAttention": MultiHead,
    "TransformerEncoderLayer": transformer_layer,
    "TransformerEncoder": lambda: nn.TransformerEncoder(transformer_layer(), 2, enable_nested_tensor=False),
    "TransformerEncoderLayer in evaluation": lambda: transformer_layer().eval(),
}
RECURRENT: dict[str, Callable[[], nn.Module]] = {
    "RNN": lambda: Recurrent(nn.RNN),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "GRU": lambda: Recurrent(nn.GRU),
    "two-way LSTM": lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True),
}


def curvature_error(net: nn.Module, loss: Callable[[], Tensor]) -> float:
    """Compare a product with the Hessian with the difference of gradients, in float64."""

    def safe() -> Tensor:
        with second_order(net):
            return loss()

    exact, numeric = Hessian(safe(), net.parameters()), FiniteDifference(safe, net.parameters())
    v = exact.gradient()
    return float((exact @ v - numeric @ v).norm() / (exact @ v).norm())


@pytest.mark.parametrize("name", [*ATTENTION, *RECURRENT])
def test_attention_and_recurrent_networks_become_twice_differentiable(name: str) -> None:
    torch.manual_seed(0)
    net = (ATTENTION | RECURRENT)[name]().to(DEVICE, torch.float64)
    x = data(3, 5, 8).double()
    assert curvature_error(net, lambda: net(x).square().mean()) < 1e-6


@pytest.mark.parametrize("name", ATTENTION)
def test_without_it_the_error_names_the_operator_and_the_cure(name: str) -> None:
    net = made(ATTENTION[name]())
    loss = net(data(3, 5, 8)).square().mean()
    named = r"`aten::_scaled_dot_product_\w*attention\w*` has no second derivative\. .*"
    hessian = Hessian(loss, net.parameters())
    with pytest.raises(SecondOrderError, match=named + CURE):
        hessian @ hessian.gradient()


def kernels(outputs: Tensor) -> set[str]:
    """Return the names of all operators in a graph."""
    nodes, names = [outputs.grad_fn], set[str]()
    while nodes:
        node = nodes.pop()
        if node is not None:
            names.add(node.name())
            nodes.extend(n for n, _ in node.next_functions)
    return names


def test_the_kernels_are_chosen_as_before_afterwards() -> None:
    net, x = made(Attention()), data(3, 5, 8)
    before = kernels(net(x))
    with second_order(net):
        inside = kernels(net(x))
    assert any("ScaledDotProduct" in name for name in before)
    assert not any("ScaledDotProduct" in name for name in inside)
    assert kernels(net(x)) == before


@pytest.mark.parametrize("name", RECURRENT)
def test_cudnn_is_off_for_recurrent_networks_only(name: str) -> None:
    before = torch.backends.cudnn.enabled
    with second_order(nn.Sequential(RECURRENT[name]())):
        assert not torch.backends.cudnn.enabled
    assert torch.backends.cudnn.enabled == before
    with second_order(nn.Linear(1, 1)):
        assert torch.backends.cudnn.enabled == before


# No trace: buffers and random state.


class Average(nn.Module):
    """A layer that replaces its buffers instead of writing into them, one of them kept out of checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("absent", None)

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        self.calls += 1
        return (x - self.mean) * self.weight


class Channels(nn.Module):
    """Apply a layer for images or volumes to rows of eight numbers, as two channels of two by two (by one)."""

    def __init__(self, inner: nn.Module, *shape: int) -> None:
        super().__init__()
        self.inner, self.shape = inner, shape

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.reshape(len(x), *self.shape)).reshape(len(x), 8)


BUFFERED: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm1d": lambda: nn.BatchNorm1d(8),
    "BatchNorm1d, cumulative": lambda: nn.BatchNorm1d(8, momentum=None),
    "BatchNorm1d, not affine": lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False)),
    "BatchNorm2d": lambda: Channels(nn.BatchNorm2d(2), 2, 2, 2),
    "BatchNorm3d": lambda: Channels(nn.BatchNorm3d(2), 2, 2, 2, 1),
    "InstanceNorm1d": lambda: Channels(nn.InstanceNorm1d(2, affine=True, track_running_stats=True), 2, 4),
    "InstanceNorm2d": lambda: Channels(nn.InstanceNorm2d(2, affine=True, track_running_stats=True), 2, 2, 2),
    "spectral norm": lambda: spectral_norm(nn.Linear(8, 8)),
    "spectral norm by a hook": lambda: nn.utils.spectral_norm(nn.Linear(8, 8)),
    "own buffers": Average,
    "nested": lambda: nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5), Average())),
}


def trained(name: str) -> nn.Module:
    """Return a network whose statistics are those of the middle of training."""
    torch.manual_seed(0)
    net = made(BUFFERED[name]())
    net(data(6, 8))
    return net


def outer_losses(net: nn.Module, phi: Tensor) -> tuple[Tensor, Tensor]:
    train = (phi * (net(data(6, 8, seed=1)) - 1) ** 2).mean()
    return train, net(data(4, 8, seed=2)).square().mean()


def some_phi() -> Tensor:
    return torch.ones(8, dtype=DTYPE, device=DEVICE, requires_grad=True)


def same_buffers(net: nn.Module, before: dict[str, tuple[Tensor, Tensor]]) -> bool:
    now = dict(net.named_buffers())
    return now.keys() == before.keys() and all(now[k] is b and torch.equal(b, copy) for k, (b, copy) in before.items())


def remember(net: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    return {name: (buffer, buffer.clone()) for name, buffer in net.named_buffers()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", BUFFERED)
def test_buffers_and_random_state_are_bit_for_bit_as_they_were(name: str, training: bool) -> None:
    net, phi = trained(name).train(training), some_phi()
    before, state = remember(net), random_state()
    with second_order(net):
        train, val = outer_losses(net, phi)
        assert not (training and same_buffers(net, before))  # inside, they move as they do in training
    assert same_buffers(net, before)
    hypergradient(train, val, params=net.parameters(), aux_params=[phi], solver=Neumann(alpha=0.01))
    (train + val).backward()
    assert same_buffers(net, before)
    assert torch.equal(state, random_state())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", BUFFERED)
def test_a_training_pass_in_between_does_not_disturb_the_graph(name: str, training: bool) -> None:
    found = []
    for disturbed in (False, True):
        net, phi = trained(name).train(training), some_phi()
        with second_order(net):
            losses = outer_losses(net, phi)
        if disturbed:
            net.train()(data(6, 8, seed=3))
        found.append(hypergradient(*losses, params=net.parameters(), aux_params=[phi], solver=Neumann(alpha=0.01)))
    assert torch.equal(found[0].grads[0], found[1].grads[0])


@pytest.mark.parametrize("where", ["around", "after"])
def test_training_goes_on_as_though_nothing_had_been(where: str) -> None:
    drawn = []
    for outer in (False, True):
        net, phi = trained("nested"), some_phi()
        if outer:
            with second_order(net):
                losses = outer_losses(net, phi)
                if where == "around":
                    hypergradient(*losses, params=net.parameters(), aux_params=[phi])
            if where == "after":
                hypergradient(*losses, params=net.parameters(), aux_params=[phi])
        drawn.append((net(data(6, 8)), torch.rand(3)))
    torch.testing.assert_close(*drawn, rtol=0, atol=0)


def test_dropout_inside_draws_what_it_would_have_drawn_outside() -> None:
    net = made(nn.Dropout(0.5))
    torch.manual_seed(1)
    with second_order(net):
        inside = net(data(6, 8))
    assert torch.equal(inside, net(data(6, 8)))


def test_a_module_and_a_buffer_that_are_shared_are_one() -> None:
    norm, first, second = made(nn.BatchNorm1d(8)), made(Average()), made(Average())
    second.mean = first.mean
    net, other = nn.Sequential(norm, first, second), nn.Sequential(norm)
    before = remember(net)
    with second_order(net, other, norm):
        assert net[0].running_mean is other[0].running_mean
        assert first.mean is second.mean
        assert first.mean is not before["1.mean"][0]
        net(data(6, 8))
    assert same_buffers(net, before)
    assert first.mean is second.mean


def test_several_networks_and_none_are_looked_after() -> None:
    nets = [trained("BatchNorm1d"), trained("own buffers")]
    before, state = [remember(net) for net in nets], random_state()
    with second_order(*nets):
        for net in nets:
            net(data(6, 8))
    with second_order():
        torch.rand(1, device=DEVICE)
    assert all(same_buffers(net, b) for net, b in zip(nets, before, strict=True))
    assert torch.equal(state, random_state())


def interrupted(_: Tensor) -> None:
    raise ZeroDivisionError


def test_an_exception_inside_restores_everything() -> None:
    net = nn.Sequential(trained("nested"), made(Recurrent(nn.GRU)), made(Attention()))
    before, state, cudnn = remember(net), random_state(), torch.backends.cudnn.enabled
    fused = kernels(net[2](data(3, 5, 8)))
    with pytest.raises(ZeroDivisionError), second_order(net):
        interrupted(net[0](data(6, 8)))
    assert same_buffers(net, before)
    assert torch.equal(state, random_state())
    assert torch.backends.cudnn.enabled == cudnn
    assert kernels(net[2](data(3, 5, 8))) == fused


def test_contexts_can_be_nested() -> None:
    net = trained("nested")
    before = remember(net)
    with second_order(net):
        net(data(6, 8))
        middle = remember(net)
        with second_order(net):
            net(data(6, 8))
        assert same_buffers(net, middle)
    assert same_buffers(net, before)


# What is refused.


def compiled_part() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    net[1][0] = torch.compile(net[1][0], backend="eager")
    return net


def marked_part() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    net[1][0].compile(backend="eager")
    return net


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (compiled_part, SecondOrderError, r"Module `1\.0` is compiled\. .*`model\._orig_mod`"),
    (marked_part, SecondOrderError, r"Module `1\.0` is compiled\. .*set_stance"),
    (lambda: torch.compile(nn.Linear(2, 2)), SecondOrderError, r"Module `OptimizedModule` is compiled"),
    (lambda: "model", InputError, r"takes modules\. It was given a `str`\. Call it as `second_order\(model\)`"),
    (lambda: nn.Linear(2, 2).parameters(), InputError, r"It was given a `generator`"),
    (lambda: [nn.Linear(2, 2)], InputError, r"It was given a `list`"),
    (lambda: nn.Linear, InputError, r"It was given a `type`"),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_other_things_and_compiled_modules_are_refused(
    make: Callable[[], Any], error: type[Exception], message: str
) -> None:
    net, refused = trained("BatchNorm1d"), make()
    before, state = remember(net), random_state()
    with pytest.raises(error, match=message), second_order(net, refused):
        raise AssertionError("the block must not run")
    assert same_buffers(net, before)
    assert torch.equal(state, random_state())


def test_the_cures_for_a_compiled_module_work() -> None:
    plain = made(nn.Sequential(nn.Linear(8, 8), nn.Tanh()))
    net = torch.compile(plain, backend="aot_eager")
    x = data(4, 8)
    with torch.compiler.set_stance("force_eager"):
        forced = Hessian(net(x).square().mean(), net.parameters())
    original = Hessian(net._orig_mod(x).square().mean(), net.parameters())
    v = original.gradient()
    torch.testing.assert_close((forced @ v).tensors, (original @ v).tensors)


# Activation checkpointing.


class Checkpointed(nn.Module):
    """Run a block again in the backward pass instead of keeping what it computed."""

    def __init__(self, inner: nn.Module, **settings: Any) -> None:
        super().__init__()
        self.inner, self.settings = inner, settings

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, **self.settings) if self.settings else self.inner(x)


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm and dropout": lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5)),
    "attention": lambda: nn.Sequential(nn.Unflatten(0, (2, 3)), Attention(), nn.Flatten(0, 1)),
    "LSTM": lambda: nn.Sequential(nn.Unflatten(0, (2, 3)), Recurrent(nn.LSTM), nn.Flatten(0, 1)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_checkpointing_gives_the_same_hypergradient_and_leaves_no_trace(name: str) -> None:
    found = []
    for settings in ({}, {"use_reentrant": False}):
        torch.manual_seed(0)
        net, phi = made(Checkpointed(BLOCKS[name](), **settings)), some_phi()
        before, state = remember(net), random_state()
        with second_order(net):
            outputs = net(data(6, 8))
            losses = (phi * (outputs - 1) ** 2).mean(), outputs.square().mean()
            found.append(hypergradient(*losses, params=net.parameters(), aux_params=[phi], solver=Neumann(terms=5)))
        assert same_buffers(net, before)
        assert torch.equal(state, random_state())
    torch.testing.assert_close(found[0].grads, found[1].grads)


def test_checkpointed_attention_outside_the_context_says_what_to_do() -> None:
    net, phi = made(Checkpointed(BLOCKS["attention"](), use_reentrant=False)), some_phi()
    with second_order(net):
        outputs = net(data(6, 8))
        losses = (phi * (outputs - 1) ** 2).mean(), outputs.square().mean()
    with pytest.raises(InputError, match=r"as it ran the first time\. .*Take the outer step inside the"):
        hypergradient(*losses, params=net.parameters(), aux_params=[phi])


def test_re_entrant_checkpointing_is_refused_even_where_torch_would_leave_it_out() -> None:
    net, x = made(Checkpointed(nn.Linear(8, 8), use_reentrant=True)), data(6, 8).requires_grad_()
    head = made(nn.Linear(8, 1))
    loss = head(net(x)).square().mean()
    assert torch.autograd.grad(loss, [net.inner.weight], retain_graph=True, allow_unused=True) == (None,)
    with pytest.raises(SecondOrderError, match=r"Re-entrant activation checkpointing .*use_reentrant=False"):
        Hessian(loss, [*head.parameters(), *net.parameters()])


# Replayed randomness.


def test_the_remembered_state_is_replayed_and_the_present_one_kept() -> None:
    torch.manual_seed(3)
    replay = ReplayedRandomness()
    first = torch.rand(3, device=DEVICE)
    state = random_state()
    for _ in range(2):
        with replay():
            assert torch.equal(torch.rand(3, device=DEVICE), first)
            with ReplayedRandomness()():
                torch.rand(3, device=DEVICE)
        assert torch.equal(state, random_state())


def test_an_exception_in_a_replay_keeps_the_present_state() -> None:
    replay = ReplayedRandomness()
    torch.rand(1, device=DEVICE)
    state = random_state()
    with pytest.raises(ZeroDivisionError), replay():
        interrupted(torch.rand(1, device=DEVICE))
    assert torch.equal(state, random_state())


# Names of first-order operators.

SECOND = r"must be twice differentiable\. The operator `{}` has no second derivative\. "


def first_order_only(function: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    """Return a call that differentiates a function twice and lets torch complain."""

    def call() -> object:
        x = (data(6, 4).abs() + 1).requires_grad_()
        (g,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        return g.sum().backward()

    return call


class Cube(torch.autograd.Function):
    """An operator whose gradient is plain code, marked as it should be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * grad


def ctc(x: Tensor) -> Tensor:
    lengths = torch.tensor([len(x)]), torch.tensor([1])
    return F.ctc_loss(x[:, None].log_softmax(-1), torch.tensor([[1]], device=DEVICE), *lengths)


def embedding_bag(x: Tensor) -> Tensor:
    return F.embedding_bag(torch.tensor([[0, 1]], device=DEVICE), x, mode="max")


def compiled_tanh(x: Tensor) -> Tensor:
    return torch.compile(torch.tanh, backend="aot_eager")(x)


# What torch 2.14 says, on any device; `derivative for aten::…`, `derivative for '…'`, `derivative for '…: input'`.
REAL: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "attention": (lambda x: F.scaled_dot_product_attention(*[x[None, None]] * 3), r"aten::_scaled_dot_product_\w+"),
    "ctc_loss": (ctc, r"(aten::)?_\w*ctc_loss_backward"),
    "embedding_bag": (embedding_bag, "_embedding_bag_backward"),
    "zeta": (lambda x: torch.special.zeta(x + 1, x), "zeta"),
    "igamma": (lambda x: torch.igamma(x, x), "igamma"),
    "once_differentiable": (Cube.apply, "a function marked with @once_differentiable"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_complaints_of_torch_are_translated(name: str) -> None:
    function, operator = REAL[name]
    call, message = first_order_only(function), SECOND.format(operator) + ".*" + CURE
    with pytest.raises(SecondOrderError, match=message) as caught, naming_first_order_operators():
        call()
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_real_complaint_about_a_compiled_function_is_translated() -> None:
    call, message = first_order_only(compiled_tanh), r"torch\.compile is not\. A compiled module takes part.*_orig_mod"
    with pytest.raises(SecondOrderError, match=message), naming_first_order_operators():
        call()


SYNTHETIC = {
    "derivative for aten::_cudnn_rnn_backward is not implemented": "aten::_cudnn_rnn_backward",
    "the derivative for '_cudnn_rnn_backward' is not implemented. Double backwards is not supported for CuDNN RNNs due "
    "to limitations in the CuDNN API.": "_cudnn_rnn_backward",
    "derivative for aten::_scaled_dot_product_efficient_attention_backward is not implemented": (
        "aten::_scaled_dot_product_efficient_attention_backward"
    ),
    "derivative for aten::_scaled_dot_product_cudnn_attention_backward is not implemented": (
        "aten::_scaled_dot_product_cudnn_attention_backward"
    ),
    "the derivative of 'ormqr' is not implemented.": "ormqr",
    "the derivative of grid_sampler_3d has not been implemented": "grid_sampler_3d",
    "double backwards on deform_conv2d not supported": "deform_conv2d",
    "Double backward on roi_align is not supported": "roi_align",
    "cudnn_rnn: backward of backward": "cudnn_rnn",
    "trying to differentiate twice a function that was marked with @once_differentiable": (
        "a function marked with @once_differentiable"
    ),
}


@pytest.mark.parametrize("message", SYNTHETIC)
def test_known_complaints_of_other_devices_and_libraries_are_translated(message: str) -> None:
    with pytest.raises(SecondOrderError, match=SECOND.format(SYNTHETIC[message])), naming_first_order_operators():
        raise RuntimeError(message)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)"),
        NotImplementedError("Could not run 'aten::foo' with arguments from the 'CPU' backend"),
        ValueError("derivative for aten::foo is not implemented"),
    ],
    ids=str,
)
def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, naming_first_order_operators():
        raise error
    assert caught.value is error


# Second derivatives that torch gets wrong without a word.


def test_torch_says_nothing_about_the_part_of_a_marked_function_that_it_leaves_out() -> None:
    w = data(3).requires_grad_()
    loss = Cube.apply(w).sum()
    (g,) = torch.autograd.grad(loss, w, create_graph=True)
    assert not g.requires_grad  # 3 w² depends on w all the same
    with pytest.raises(SecondOrderError, match=SECOND.format("Cube")):
        gradients(loss, [w], create_graph=True)
    assert gradients(loss, [w])[0] is not None  # once is fine


def test_only_the_way_to_the_inputs_is_searched() -> None:
    w, other = data(3).requires_grad_(), data(3, seed=1).requires_grad_()
    v = w * 2  # an input that is no leaf, as in unrolling: what lies behind it does not matter
    refuse_wrong_second_derivatives([(Cube.apply(other) * w).sum()], [w])
    refuse_wrong_second_derivatives([(Cube.apply(w) * v).sum()], [v])
    refuse_wrong_second_derivatives([data(3).sum()], [w])
    for inputs in ([v], [w], [other, w]):
        with pytest.raises(SecondOrderError, match="`Cube`"):
            refuse_wrong_second_derivatives([other.sum(), (other * Cube.apply(v)).sum()], inputs)


class Twice(torch.autograd.Function):
    """An operator written with differentiable operators."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grad


def test_own_functions_that_are_not_marked_are_differentiated() -> None:
    w = data(3).requires_grad_()
    H = Hessian(Twice.apply(w).sum(), [w])
    assert torch.equal((H @ H.gradient()).tensors[0], 4 * w)


def test_weight_norm_is_refused_and_its_cure_works() -> None:
    net = made(weight_norm(nn.Linear(8, 8)))
    x = data(4, 8)
    with pytest.raises(SecondOrderError, match=r"weight norm gives a wrong second derivative .*FiniteDifference"):
        Hessian(net(x).square().mean(), net.parameters())
    by_hand = nn.ParameterList([data(8, 8).double(), data(8, 1).double()])
    v, g = by_hand
    assert curvature_error(by_hand, lambda: (g * v / v.norm(dim=1, keepdim=True)).pow(4).mean()) < 1e-6
