"""What every combiner keeps, whatever it computes."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.testing import assert_close

from auxilearn.combiners import MLP, Bent, Conv, DeepLinear, Linear, LossCombiner, Standardized
from support import DEVICE, DTYPE

K = 3
COMBINERS = {
    "linear": lambda **kw: Linear(K, **kw),
    "linear-softplus": lambda **kw: Linear(K, growth="softplus", **kw),
    "linear-uncapped": lambda **kw: Linear(K, cap=None, **kw),
    "deep": lambda **kw: DeepLinear(K, hidden=(4, 2), **kw),
    "mlp": lambda **kw: MLP(K, hidden=(4, 3), **kw),
    "mlp-convex": lambda **kw: MLP(K, hidden=(4,), bend="convex", **kw),
    "mlp-concave": lambda **kw: MLP(K, hidden=(2, 2), bend="concave", **kw),
    "bent": lambda **kw: Bent(K, **kw),
    "bent-each": lambda **kw: Bent(K, shared=False, **kw),
    "bent-concave": lambda **kw: Bent(K, bend="concave", **kw),
    "conv": lambda **kw: Conv(K, channels=(2, 3), **kw),
    "conv-convex": lambda **kw: Conv(K, channels=(2,), bend="convex", **kw),
    "standardized": lambda **kw: Standardized(MLP(K, hidden=(4,), **kw), scale=(1.0, 2.0, 0.5)),
}
NAMES = list(COMBINERS)


@pytest.fixture(autouse=True)
def _one_thread():
    # Hand-over between threads takes a hundred times longer than these tiny tensors.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(name, dtype=DTYPE, **options):
    torch.manual_seed(0)
    return COMBINERS[name](**options).to(DEVICE, dtype)


def draw(combiner, dtype=DTYPE, seed=0, batch=5):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, K, 4, 6) if combiner.ndims == (4,) else (batch, K)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype) * 3


def scramble(combiner, size=1.0, seed=1):
    """Move every parameter away from its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in combiner.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p))
    return combiner


def slopes(combiner, losses):
    losses = losses.detach().requires_grad_()
    return torch.autograd.grad(combiner(losses), losses)[0]


@pytest.mark.parametrize("name", NAMES)
def test_starts_at_weight_one_where_losses_are_one(name):
    combiner = make(name)
    ones = torch.ones_like(draw(combiner))
    if name == "standardized":
        ones = ones * combiner.scale
    expected = 1 / combiner.scale if name == "standardized" else torch.ones(K, device=DEVICE, dtype=DTYPE)
    assert_close(combiner.weights_at(ones), expected, rtol=1e-6 if torch.float64 == DTYPE else 2e-2, atol=0.0)


@pytest.mark.parametrize(
    "name", ["linear", "linear-softplus", "linear-uncapped", "deep", "mlp", "bent", "bent-each", "conv"]
)
def test_starts_as_the_plain_sum(name):
    combiner = make(name)
    losses = draw(combiner)
    expected = losses.movedim(1, 0).flatten(1).mean(1).sum()
    assert_close(combiner(losses), expected, rtol=1e-6 if torch.float64 == DTYPE else 2e-2, atol=0.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0.0, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("seed", range(3))
def test_is_increasing_in_every_loss_for_any_parameters(name, size, seed):
    combiner = scramble(make(name), size, seed)
    for spread in (0.0, 1.0, 1e3):
        found = slopes(combiner, (draw(combiner, seed=seed) - 1.0) * spread)
        # Fast algorithms for convolutions subtract inside, and round: elsewhere the sign is exact.
        slack = 10 * torch.finfo(DTYPE).eps * found.abs().max() if "conv" in name else 0.0
        assert (found >= -slack).all()
        assert found.isfinite().all() or name == "linear-uncapped"  # e¹⁰⁰⁰ is what it was asked for


@pytest.mark.parametrize("name", NAMES)
def test_main_loss_is_added_once(name):
    plain, skipping = scramble(make(name)), scramble(make(name, main=1))
    losses = draw(plain)
    main = losses[:, 1].mean() / (2.0 if name == "standardized" else 1.0)
    assert_close(skipping(losses), plain(losses) + main)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("main", [None, 2])
def test_is_twice_differentiable(name, main):
    combiner = scramble(make(name, torch.float64, main=main), 0.3)
    losses = draw(combiner, torch.float64, batch=2).requires_grad_()
    names, params = zip(*combiner.named_parameters(), strict=True)

    def combined(x, *values):
        return functional_call(combiner, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(combined, (losses, *params), fast_mode=True)
    assert torch.autograd.gradgradcheck(combined, (losses, *params), fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_mixed_derivative_reaches_the_parameters_from_the_start(name):
    # ∂²L_T/∂φ∂ℓ is what the hypergradient is made of; without it a combiner could never begin to learn.
    combiner = make(name)
    losses = draw(combiner).requires_grad_()
    (slope,) = torch.autograd.grad(combiner(losses), losses, create_graph=True)
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn(slope.shape, generator=generator, dtype=torch.float64).to(slope)
    mixed = torch.autograd.grad((slope * direction).sum(), tuple(combiner.parameters()), allow_unused=True)
    assert any(g is not None and (g != 0).all() for g in mixed)
    assert all(g is None or g.isfinite().all() for g in mixed)


@pytest.mark.parametrize("name", NAMES)
def test_copies_pickles_and_restores(name):
    combiner = scramble(make(name))
    losses = draw(combiner)
    expected = combiner(losses)

    assert torch.equal(copy.deepcopy(combiner)(losses), expected)

    stream = io.BytesIO()
    torch.save(combiner, stream)
    stream.seek(0)
    assert torch.equal(torch.load(stream, weights_only=False)(losses), expected)

    torch.manual_seed(99)  # other initial matrices, which are state, too
    fresh = COMBINERS[name]().to(DEVICE, DTYPE)
    fresh.load_state_dict(combiner.state_dict())
    assert torch.equal(fresh(losses), expected)


@pytest.mark.parametrize("name", NAMES)
def test_works_functionally_and_leaves_the_module_alone(name):
    combiner = make(name)
    losses = draw(combiner)
    before = combiner(losses)
    other = {k: p + 0.5 for k, p in combiner.named_parameters()}
    assert not torch.equal(functional_call(combiner, other, (losses,)), before)
    assert torch.equal(combiner(losses), before)


@pytest.mark.parametrize("name", NAMES)
def test_works_under_vmap_over_models(name):
    models = [scramble(make(name), seed=s) for s in range(2)]
    losses = draw(models[0])
    params, buffers = stack_module_state(models)

    def combined(p, b):
        return functional_call(models[0], (p, b), (losses,))

    assert_close(vmap(combined)(params, buffers), torch.stack([m(losses) for m in models]))
    found = vmap(grad(combined))(params, buffers)
    assert all(g.isfinite().all() for g in found.values())


@pytest.mark.parametrize("name", NAMES)
def test_low_precision_losses_are_promoted(name):
    combiner = scramble(make(name, torch.float32))
    losses = draw(combiner, torch.float32).bfloat16()
    expected = combiner(losses.float())
    assert_close(combiner(losses), expected)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        found = combiner(losses)
    assert found.dtype == torch.float32
    assert_close(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_high_precision_losses_stay_so(name):
    combiner = scramble(make(name, torch.float32))
    assert combiner(draw(combiner, torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_a_call_changes_nothing(name):
    combiner, rng = make(name), torch.get_rng_state()
    losses = draw(combiner)
    kept = copy.deepcopy(combiner.state_dict()), losses.clone()
    with torch.no_grad():
        assert not combiner(losses).requires_grad
    combiner(losses).backward()
    assert all(torch.equal(v, kept[0][k]) for k, v in combiner.state_dict().items())
    assert torch.equal(losses, kept[1])
    assert torch.equal(rng, torch.get_rng_state())


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name):
    assert f"num_losses={K}, main=1" in repr(make(name, main=1))


@pytest.mark.parametrize("build", [DeepLinear, MLP, Conv])
def test_generator_makes_the_start_reproducible(build):
    state = torch.get_rng_state()
    a, b, c = (build(K, generator=torch.Generator().manual_seed(s)).state_dict() for s in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize("name", NAMES)
def test_is_a_module_of_its_own(name):
    combiner = make(name)
    assert isinstance(combiner, LossCombiner)
    assert isinstance(combiner, nn.Module)
    assert all(p.requires_grad and not p.any() for p in combiner.parameters())  # 0 is the start
