"""The compiled Hessian: equal to the eager one, compiled once, and refused in words where it cannot be."""

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn.functional import scaled_dot_product_attention

from auxilearn import Vector, hypergradient
from auxilearn.combiners import Linear, Standardized
from auxilearn.curvature import CompiledHessian, Hessian, LossCurvature
from auxilearn.errors import InputError, SecondOrderError
from auxilearn.safety import second_order
from auxilearn.solvers import ConjugateGradient
from support import DEVICE, close, normal


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = x.reshape(2, -1, 12).chunk(3, -1)
        return scaled_dot_product_attention(q, k, v).reshape(-1, 4)


class Tied(nn.Module):
    """Two layers with one weight, and a layer that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(2, 2)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


NETWORKS: dict[str, Callable[[], list[nn.Module]]] = {
    "MLP": lambda: [nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)],
    "BatchNorm and dropout": lambda: [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)],
    "tied and unused": lambda: [Tied(), nn.Linear(4, 3)],
    "one layer": lambda: [nn.Linear(4, 3), nn.Tanh()],
    "attention": lambda: [nn.Linear(4, 12), Attention(), nn.Linear(4, 3)],
}


class World:
    """A network whose three squared errors are weighted by a combiner."""

    def __init__(self, name: str = "MLP", dtype: torch.dtype = torch.float64, size: int = 12) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(*NETWORKS[name]()).to(DEVICE, dtype)
        self.combiner: nn.Module = Linear(3).to(DEVICE, dtype)
        self.batch = normal(size, 4, dtype=dtype), normal(size, 3, dtype=dtype, seed=1)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return self.combiner((self.net(x) - y).square())

    def eager(self, *batch: Tensor) -> Hessian:
        with second_order(self.net):
            loss = self.loss(*(batch or self.batch))
        return Hessian(loss, self.net.parameters())

    def compiled(self, backend: str = "aot_eager", **settings: Any) -> CompiledHessian:
        return CompiledHessian(self.loss, [self.net], backend=backend, **settings)

    def move(self) -> None:
        with torch.no_grad():
            for p in self.net.parameters():
                p.mul_(0.9)


def check_equal(found: LossCurvature, exact: LossCurvature, phi: list[Tensor], tolerance: float) -> None:
    assert [id(p) for p in found.params] == [id(p) for p in exact.params]
    v = exact.gradient().randn_like(torch.Generator().manual_seed(5))
    assert close(found.gradient().flat(), exact.gradient().flat(), tolerance)
    assert close((found @ v).flat(), (exact @ v).flat(), tolerance)
    for mine, true in zip(found.cross(v, phi), exact.cross(v, phi), strict=True):
        assert mine is not None
        assert true is not None
        assert close(mine, true, tolerance)


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_eager_hessian_at_every_step_and_compiles_once(name: str) -> None:
    world = World(name)
    compiled, phi = world.compiled(), list(world.combiner.parameters())
    before = graphs()
    for step in range(4):
        buffers = [b.clone() for b in world.net.buffers()]
        state = torch.get_rng_state()
        H = compiled(*world.batch)
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(a, b) for a, b in zip(buffers, world.net.buffers(), strict=True))
        assert H.products == 0
        check_equal(H, world.eager(), phi, 1e-12)
        H.release()
        assert graphs() == before + 1, step
        world.move()


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.filterwarnings("ignore")  # what Inductor has to say is its own affair
def test_inductor_gives_the_same(dtype: torch.dtype, tolerance: float) -> None:
    world = World("one layer", dtype)
    compiled, phi = world.compiled("inductor"), list(world.combiner.parameters())
    before = graphs()
    for _ in range(2):
        check_equal(compiled(*world.batch), world.eager(), phi, tolerance)
        world.move()
    assert graphs() == before + 1


def test_another_batch_size_compiles_once_more() -> None:
    world = World()
    compiled, phi = world.compiled(), list(world.combiner.parameters())
    before = graphs()
    for size in (12, 7, 5, 9):
        batch = normal(size, 4, dtype=torch.float64, seed=size), normal(size, 3, dtype=torch.float64, seed=size + 1)
        check_equal(compiled(*batch), world.eager(*batch), phi, 1e-12)
    assert graphs() - before in {2, 4}  # torch 2.6 compiles for each size anew


def test_too_many_batch_sizes_are_refused() -> None:
    world = World()
    compiled = world.compiled(dynamic=False)
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    with torch._dynamo.config.patch({limit: 2}):
        for size in (12, 7):
            compiled(world.batch[0][:size], world.batch[1][:size])
        with pytest.raises(InputError, match=r"few batch sizes\. .* Pad or drop the last batch"):
            compiled(world.batch[0][:5], world.batch[1][:5])


def test_the_hypergradient_takes_it() -> None:
    world = World()
    compiled, phi = world.compiled(damping=0.5), list(world.combiner.parameters())
    outer = (world.net(world.batch[0])[:, 0] - world.batch[1][:, 0]).square().mean()
    solver = ConjugateGradient(max_steps=5)
    found = hypergradient(compiled(*world.batch), outer, params=(), aux_params=phi, solver=solver)
    exact = Hessian(world.loss(*world.batch), world.net.parameters(), damping=0.5)
    expected = hypergradient(exact, outer, params=(), aux_params=phi, solver=solver)
    assert close(found.grads[0], expected.grads[0], 1e-10)
    assert found.report.products == expected.report.products


def test_frozen_weights_are_left_out_and_may_change() -> None:
    world = World()
    world.net[0].requires_grad_(False)
    compiled, phi = world.compiled(), list(world.combiner.parameters())
    for _ in range(2):
        check_equal(compiled(*world.batch), world.eager(), phi, 1e-12)
        world.move()
    world.net[0].requires_grad_(True)
    check_equal(compiled(*world.batch), world.eager(), phi, 1e-12)


def test_it_works_without_grad_mode_and_serves_no_product_after_release() -> None:
    world = World()
    with torch.no_grad():
        H = world.compiled()(*world.batch)
    v = H.gradient()
    assert close((H @ v).flat(), (world.eager() @ v).flat(), 1e-12)
    H.release()
    with pytest.raises(InputError, match="after `release\\(\\)`"):
        H @ v


def test_standardised_losses_whose_scale_is_known_are_traced() -> None:
    world = World()
    world.combiner = Standardized(world.combiner, scale=[1.0, 2.0, 3.0]).to(DEVICE, torch.float64)  # type: ignore[arg-type]
    check_equal(world.compiled()(*world.batch), world.eager(), list(world.combiner.parameters()), 1e-12)


def test_autocast_is_part_of_the_loss() -> None:
    world = World(dtype=torch.float32)
    compiled = world.compiled()
    with torch.autocast(DEVICE.type, torch.bfloat16):
        H, exact = compiled(*world.batch), world.eager()
    check_equal(H, exact, list(world.combiner.parameters()), 1e-5)


def test_control_flow_that_depends_on_data_is_refused() -> None:
    world = World()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        found = world.loss(x, y)
        return found if found > 0 else -found

    with pytest.raises(InputError, match=r"trace the loss as one graph\. It says: .*`torch\.where`"):
        CompiledHessian(loss, [world.net], backend="aot_eager")(*world.batch)


def test_a_module_compiled_by_itself_is_refused() -> None:
    world = World()
    compiled = torch.compile(world.net, backend="aot_eager")
    H = CompiledHessian(lambda x, y: compiled(x).sum(), [compiled], backend="aot_eager")
    with pytest.raises(SecondOrderError, match=r"Module `OptimizedModule` is compiled\. .*_orig_mod"):
        H(*world.batch)


def test_an_operator_without_a_second_derivative_is_named() -> None:
    world = World()
    loss = lambda x, y: torch.special.zeta(world.net(x).square() + 2, y.square() + 1).sum()  # noqa: E731
    with pytest.raises(SecondOrderError, match=r"The operator `zeta` has no second derivative"):
        CompiledHessian(loss, [world.net], backend="aot_eager")(*world.batch)


def test_weights_that_are_read_past_the_modules_are_noticed() -> None:
    world = World()
    weight = world.net[0].weight
    compiled = CompiledHessian(lambda x, y: world.loss(x, y) + weight.square().sum(), [world.net], backend="aot_eager")
    with pytest.raises(SecondOrderError, match=r"Its gradient differs by .* weights only by calling `modules`"):
        compiled(*world.batch)


def test_sharded_weights_are_refused() -> None:
    world = World()
    world.net[0].weight.full_tensor = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"needs whole weights\. Some of them are sharded \(`DTensor`\)"):
        world.compiled()(*world.batch)


@pytest.mark.filterwarnings("ignore")
def test_a_missing_compiler_is_named() -> None:
    from torch._inductor import config

    world = World("tied and unused", size=11)
    with (
        config.patch({"force_disable_caches": True, "cpp.cxx": ("/nowhere/c++",)}),
        pytest.raises(InputError, match=r"needs a C\+\+ compiler that works\. .*aot_eager"),
    ):
        world.compiled("inductor")(*world.batch)


def test_a_loss_that_is_not_finite_is_refused_at_every_step() -> None:
    world = World()
    compiled = world.compiled()
    compiled(*world.batch)
    with pytest.raises(InputError, match=r"`train_loss` must be finite\. It is nan"):
        compiled(world.batch[0] * float("nan"), world.batch[1])


BAD: list[tuple[Callable[[World], Any], str]] = [
    (lambda w: CompiledHessian(w.loss(*w.batch), [w.net]), r"`loss` must be a function .* It is a `Tensor`"),  # type: ignore[arg-type]
    (lambda w: CompiledHessian(w.loss, w.net), r"`modules` must be a list of networks\. It is a `Sequential`"),
    (lambda w: CompiledHessian(w.loss, []), r"`modules` must be a list of networks\. It is empty"),
    (lambda w: CompiledHessian(w.loss, w.net.parameters()), r"It holds a `Parameter`"),  # type: ignore[arg-type]
    (lambda w: CompiledHessian(w.loss, [w.net], backend="fast"), r"`backend` must be one of .*It is 'fast'"),
    (lambda w: CompiledHessian(w.loss, [w.net], damping=-1.0), r"`damping` must be finite and at least 0"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_arguments_are_refused(make: Callable[[World], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(World())


def test_a_loss_linear_in_the_weights_has_no_curvature() -> None:
    weights = nn.ParameterList([nn.Parameter(torch.ones(3, dtype=torch.float64, device=DEVICE))])
    H = CompiledHessian(lambda: (2 * weights[0]).sum(), [weights], backend="aot_eager")()
    v = Vector([torch.ones_like(weights[0])])
    assert torch.equal((H @ v).tensors[0], torch.zeros_like(weights[0]))
