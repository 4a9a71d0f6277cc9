"""Every curvature operator over shards and through DistributedDataParallel: that of one process with the full batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.checkpoint import checkpoint

from auxilearn import Vector, hypergradient
from auxilearn._vectors import is_distributed
from auxilearn.curvature import CompiledHessian, FiniteDifference, GaussNewton, Hessian, LossCurvature, Streamed
from auxilearn.distributed import Unsharded
from auxilearn.errors import InputError
from auxilearn.optim import MetaOptimizer
from auxilearn.safety import second_order
from auxilearn.solvers import ConjugateGradient, CurvatureSketch, Identity, LinearSolver, Neumann, SingleLoop
from support import normal
from two_ranks import Outcomes, names, outcomes, passed, rows, same_on_all

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")

N = 16
ALL = slice(0, N)
X, Y = normal(N, 3, dtype=torch.float64), normal(N, 2, dtype=torch.float64, seed=1)
Net = Callable[[Tensor], Tensor]


def network() -> nn.Module:
    """Odd sizes, so that shards are uneven."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 2)).double()


class World:
    """A network on this rank's rows, whose two losses are weighted by exp(φ)."""

    def __init__(self, model: nn.Module, at: slice, plain: Unsharded | None = None) -> None:
        self.model, self.at, self.plain = model, at, plain
        self.phi = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        self.params = [p for p in model.parameters() if p.requires_grad]

    @contextmanager
    def net(self) -> Iterator[nn.Module]:
        if self.plain is None:
            yield self.model
        else:
            with self.plain.of(self.model) as net:
                yield net

    def of_outputs(self, out: Tensor, at: slice) -> Tensor:
        return ((out - Y[at]).square() @ self.phi.exp()).mean()

    def train(self, at: slice | None = None) -> Tensor:
        at = self.at if at is None else at
        with self.net() as net:
            return self.of_outputs(net(X[at]), at)

    def outer(self) -> Tensor:
        with self.net() as net:
            return (net(X[self.at]) - 1)[:, 0].square().mean() + 0.1 * self.phi.square().sum()

    def halves(self) -> list[slice]:
        middle = (self.at.start + self.at.stop) // 2
        return [slice(self.at.start, middle), slice(middle, self.at.stop)]

    def gauss_newton(self, at: slice | None = None, **settings: Any) -> LossCurvature:
        at = self.at if at is None else at
        with self.net() as net:
            out = net(X[at])
        return GaussNewton(self.of_outputs(out, at), out, self.params, **settings)

    def operator(self, kind: str) -> LossCurvature:
        if kind == "GaussNewton":
            return self.gauss_newton(damping=0.1)
        if kind == "FiniteDifference":
            return FiniteDifference(self.train, self.params, damping=0.1)
        if kind == "FiniteDifference without a probe":
            return FiniteDifference(self.train, self.params, damping=0.1, probe=False)
        if kind == "Streamed":
            return Streamed(lambda at: Hessian(self.train(at), self.params), self.halves(), damping=0.1)
        if kind == "Streamed GaussNewton":
            return Streamed(lambda at: self.gauss_newton(at), self.halves(), damping=0.1)
        if kind == "CompiledHessian":
            loss = lambda x, y: ((self.model(x) - y).square() @ self.phi.exp()).mean()  # noqa: E731
            compiled = CompiledHessian(loss, [self.model], damping=0.1, backend="aot_eager")
            return compiled(X[self.at], Y[self.at])
        return Hessian(self.train(), self.params, damping=0.1)

    def solved(self, kind: str, solver: LinearSolver, group: Any) -> tuple[Tensor, ...]:
        operator = self.operator(kind)
        return hypergradient(operator, self.outer(), params=(), aux_params=[self.phi], solver=solver, group=group).grads


KINDS = [
    "Hessian",
    "GaussNewton",
    "Streamed",
    "Streamed GaussNewton",
    "FiniteDifference",
    "FiniteDifference without a probe",
]
SOLVERS: list[Callable[[], LinearSolver]] = [
    Identity,
    lambda: Neumann(terms=5),
    lambda: ConjugateGradient(max_steps=6),
    SingleLoop,
]


def passes_of_shards() -> bool:
    """Say whether torch's `fully_shard` itself can run a pass on the CPU (2.6 asks for the events of a stream)."""
    from torch.distributed.fsdp import fully_shard

    try:
        fully_shard(nn.Linear(2, 2))(torch.ones(1, 2))
    except AttributeError:
        return False
    return True


def needs_passes_of_shards() -> None:
    if not passes_of_shards():
        pytest.skip("fully_shard of this torch does not run on the CPU")


def single(world: "World") -> tuple[Tensor, Tensor]:
    """Return both losses of weights in float32."""
    with world.net() as net:
        out = net(X[world.at].float()).float()
    train = ((out - Y[world.at].float()).square() @ world.phi.float().exp()).mean()
    return train, (out - 1)[:, 0].square().mean() + 0.1 * world.phi.float().square().sum()


def error(found: Any, exact: Any) -> float:
    a, b = (Vector([t.detach() for t in side]).flat() for side in (found, exact))
    return float((a - b).norm() / b.norm())


def tolerance(kind: str) -> float:
    return 1e-6 if kind.startswith("FiniteDifference") else 1e-10


def sharded(dtype: torch.dtype = torch.float64, **settings: Any) -> tuple[nn.Module, Unsharded]:
    from torch.distributed.fsdp import fully_shard

    model = network().to(dtype)
    plain = Unsharded(model)
    for part in (model[0], model[2]):
        fully_shard(part, **settings)
    fully_shard(model, **settings)
    return model, plain


def compare(ours: World, kinds: list[str]) -> None:
    alone = World(network(), ALL)
    for kind in kinds:
        for make in SOLVERS:
            found = ours.solved(kind, make(), dist.group.WORLD)
            # The truth of finite differences is the exact Hessian.
            exact = alone.solved("Hessian" if kind.startswith("FiniteDifference") else kind, make(), "local")
            assert error(found, exact) < tolerance(kind), (kind, make(), error(found, exact))
            assert all(map(same_on_all, found)), kind
        gradient = ours.operator(kind).gradient()
        if ours.plain is not None:  # of shards it is the mean already
            assert error(gradient, alone.operator(kind).gradient()) < 1e-10, kind


def on_two_ranks_every_operator_is_exact_over_shards() -> None:
    model, plain = sharded()
    before = [(p.to_local().data_ptr(), p.to_local().detach().clone()) for p in model.parameters()]
    world = World(model, rows(N), plain)
    compare(world, KINDS)
    v = world.operator("FiniteDifference") @ Vector(p.detach() for p in world.params)
    assert all(map(is_distributed, v))
    for (pointer, value), p in zip(before, model.parameters(), strict=True):  # bit by bit in their own memory
        assert p.to_local().data_ptr() == pointer
        assert torch.equal(p.to_local(), value)


def on_two_ranks_every_operator_is_exact_through_ddp() -> None:
    from torch.nn.parallel import DistributedDataParallel

    compare(World(DistributedDataParallel(network()), rows(N)), KINDS)
    model = network()
    DistributedDataParallel(model)  # beside the wrapper
    compare(World(model, rows(N)), [*KINDS, "CompiledHessian"])


def on_two_ranks_a_compiled_hessian_of_shards_is_refused() -> None:
    model, _ = sharded()
    with pytest.raises(InputError, match=r"needs whole weights\. .*sharded .*Use `Hessian`"):
        World(model, rows(N)).operator("CompiledHessian")


def on_two_ranks_a_sketch_of_the_curvature_is_refused() -> None:
    world = World(network(), rows(N))
    sketch = CurvatureSketch(world.model)
    with sketch.watched():
        out = world.model(X[world.at])
    sketch.update(world.of_outputs(out, world.at), out)
    solver = ConjugateGradient(preconditioner=sketch)
    for damping in (0.1, 0.2):  # again with the same sketch
        with pytest.raises(InputError, match="all ranks must precondition alike"):
            hypergradient(
                world.train(),
                world.outer(),
                params=world.params,
                aux_params=[world.phi],
                damping=damping,
                solver=solver,
                group=dist.group.WORLD,
            )


def on_two_ranks_finite_differences_of_weights_that_the_loss_does_not_read_are_refused() -> None:
    needs_passes_of_shards()
    model, plain = sharded()
    world = World(model, rows(N))  # without the twin
    with pytest.raises(InputError, match=r"other tensors than the shards .*Unsharded"):
        world.operator("FiniteDifference")
    H = world.operator("FiniteDifference without a probe")
    with pytest.raises(InputError, match=r"other tensors than the shards .*Unsharded"):
        H.cross(Vector(p.detach() for p in world.params), [world.phi])
    # The root is gathered still: the twin shards it, so that weights listed before are not those in use.
    stale = World(model, rows(N), plain)
    for kind in ("Hessian", "FiniteDifference", "FiniteDifference without a probe"):
        with pytest.raises(InputError, match=r"gathered for a pass.*list `model\.parameters\(\)` afterwards"):
            stale.solved(kind, Neumann(), dist.group.WORLD)
    compare(World(model, rows(N), plain), ["FiniteDifference"])


def on_two_ranks_finite_differences_of_tensor_parallel_layers_are_exact_without_a_twin() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    whole = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    model = deepcopy(whole)
    parallelize_module(model, init_device_mesh("cpu", (2,)), {"0": ColwiseParallel(), "2": RowwiseParallel()})
    # All ranks have the same data: their mean is theirs.
    ours, alone = World(model, ALL), World(whole, ALL)
    found = ours.solved("FiniteDifference", Neumann(terms=5), dist.group.WORLD)
    assert error(found, alone.solved("Hessian", Neumann(terms=5), "local")) < 1e-6


def on_two_ranks_streams_of_shards_have_as_many_batches_each() -> None:
    model, plain = sharded()
    world, first = World(model, rows(N), plain), dist.get_rank() == 0
    parts = world.halves() if first else [world.at]
    operator = Streamed(lambda at: Hessian(world.train(at), world.params), parts)
    with pytest.raises(InputError, match=f"This rank has {2 if first else 1}, another one"):
        hypergradient(operator, world.outer(), params=(), aux_params=[world.phi], group=dist.group.WORLD)
    # Copies send a message a product, whatever it takes.
    copies = World(network(), rows(N))
    operator = Streamed(
        lambda at: Hessian(copies.train(at), copies.params), parts if first else [world.at], damping=0.1
    )
    settings: Any = {"params": (), "aux_params": [copies.phi], "solver": Neumann(terms=5)}
    found = hypergradient(operator, copies.outer(), **settings, group=dist.group.WORLD).grads
    exact = World(network(), ALL).solved("Hessian", Neumann(terms=5), "local")
    assert error(found, exact) < 1e-10


def trained(model: Any, world: World, group: Any, kind: str | None, **how: Any) -> tuple[list[Tensor], Tensor]:
    """Train, with an outer step in every other step before some part of the batch, and return the weights and φ."""
    inner = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    meta = MetaOptimizer(torch.optim.Adam([world.phi], lr=0.05), solver=Neumann(terms=4, alpha=0.1), group=group)
    parts: Any = how.get("parts", [world.at])

    def synchronise(last: bool) -> Any:
        if hasattr(model, "set_requires_gradient_sync"):
            model.set_requires_gradient_sync(last)
        return model.no_sync() if hasattr(model, "no_sync") and not last else nullcontext()

    for step in range(4):
        inner.zero_grad()
        for i, at in enumerate(parts):
            with synchronise(i == len(parts) - 1):
                if step % 2 == 0 and i == how.get("when", 0):
                    with second_order(model):
                        train = world.train() if kind is None else world.operator(kind)
                        main = world.outer()
                    meta.step(train, main, world.params, [world.phi])
                (((model(X[at]) - Y[at]).square() @ world.phi.detach().exp()).mean() / len(parts)).backward()
        inner.step()
    return list(model.parameters()), world.phi


def on_two_ranks_training_through_ddp_goes_on_beside_every_operator() -> None:
    from torch.nn.parallel import DistributedDataParallel

    for kind in ("GaussNewton", "Streamed", "FiniteDifference without a probe"):
        model, alone = DistributedDataParallel(network()), network()
        params, phi = trained(model, World(model, rows(N)), dist.group.WORLD, kind)
        whole, whole_phi = trained(alone, World(alone, ALL), "local", kind)
        assert error([phi], [whole_phi]) < 1e-6, kind
        assert error(params, whole) < 1e-6, kind
        assert all(map(same_on_all, params))


def on_two_ranks_an_overflow_of_one_rank_lowers_the_scale_of_all() -> None:
    from torch.distributed.fsdp import fully_shard

    class Factor(nn.Module):
        """One number, of which the second rank has an empty shard."""

        def __init__(self) -> None:
            super().__init__()
            self.log = nn.Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, loss: Tensor) -> Tensor:
            return loss * self.log.exp().sum()

    factor = Factor()
    plain_factor = Unsharded(factor)
    fully_shard(factor)
    model, plain = sharded()
    for world, shards in ((World(model, rows(N), plain), False), (World(network(), rows(N)), True)):
        aux = list(factor.parameters()) if shards else [world.phi]
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        optimizer = torch.optim.SGD(aux, lr=0.1)
        meta = MetaOptimizer(optimizer, solver=Neumann(terms=3), group=dist.group.WORLD, on_failure="raise")
        broken = float("inf") if dist.get_rank() == 1 else 1.0
        for first, second, skips in ((broken, 1.0, True), (1.0, broken, True), (1.0, 1.0, False)):
            before = Vector(t.detach() for t in aux).flat()
            with plain_factor.of(factor) as weigh:
                losses = weigh(world.train()) * first, world.outer() * second
            meta.step(*losses, world.model.parameters(), aux, grad_scaler=scaler)
            scaler.update()
            assert meta.step_was_skipped == skips
            assert torch.equal(Vector(t.detach() for t in aux).flat(), before) == skips
            assert same_on_all(torch.tensor(scaler.get_scale()))
        assert scaler.get_scale() == 2.0**8
    # torch cannot look at both kinds at once.
    both = [world.phi, *factor.parameters()]
    meta = MetaOptimizer(torch.optim.SGD(both, lr=0.1), group=dist.group.WORLD)
    with plain_factor.of(factor) as weigh:
        losses = weigh(world.train()), world.outer()
    with pytest.raises(InputError, match="all sharded or none"):
        meta.step(*losses, world.model.parameters(), both, grad_scaler=scaler)


class Checkpointed(nn.Module):
    """The network, whose middle is computed anew for every derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor) -> Tensor:
        inner = checkpoint(nn.Sequential(*self.net[1:4]), self.net[0](x), use_reentrant=False)
        return self.net[4](inner)


def on_two_ranks_checkpointed_activations_are_exact() -> None:
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    exact = World(network(), ALL).solved("Hessian", Neumann(terms=5), "local")
    wrapped = DistributedDataParallel(Checkpointed())
    found = World(wrapped, rows(N)).solved("Hessian", Neumann(terms=5), dist.group.WORLD)
    assert error(found, exact) < 1e-10
    params, _ = trained(wrapped, World(wrapped, rows(N)), dist.group.WORLD, None)
    alone = network()
    whole, _ = trained(alone, World(alone, ALL), "local", None)
    assert error(params, whole) < 1e-10

    model = Checkpointed()
    plain = Unsharded(model)
    fully_shard(model)
    world = World(model, rows(N), plain)
    with plain.of(model) as net:  # the passes are run again while the twin has the weights
        train = world.of_outputs(net(X[world.at]), world.at)
        outer = (net(X[world.at]) - 1)[:, 0].square().mean() + 0.1 * world.phi.square().sum()
        settings: Any = {"params": model.parameters(), "aux_params": [world.phi], "damping": 0.1}
        found = hypergradient(train, outer, **settings, solver=Neumann(terms=5), group=dist.group.WORLD).grads
    assert error(found, exact) < 1e-10
    with pytest.raises(InputError, match=r"checkpointing must run the forward pass again.*Unsharded"):
        world.solved("Hessian", Neumann(terms=5), dist.group.WORLD)


def quarters(ranks: int) -> list[list[int]]:
    """Return a batch in four parts: this rank's, or those of both ranks."""
    of_rank = [[list(range(r * N // 2 + p * 2, r * N // 2 + p * 2 + 2)) for p in range(4)] for r in range(2)]
    return of_rank[dist.get_rank()] if ranks == 1 else [a + b for a, b in zip(*of_rank, strict=True)]


def on_two_ranks_an_outer_step_amid_accumulation_leaves_training_unharmed() -> None:
    from torch.nn.parallel import DistributedDataParallel

    kinds: list[dict[str, bool] | None] = [{}, {"gradient_as_bucket_view": True}, {"find_unused_parameters": True}]
    for when in range(4):  # before the first part, between two, before the one that is reduced
        alone = network()
        whole, whole_phi = trained(alone, World(alone, ALL), "local", None, parts=quarters(2), when=when)
        for settings in [*kinds, None] if passes_of_shards() else kinds:
            model, plain = sharded() if settings is None else (DistributedDataParallel(network(), **settings), None)
            world = World(model, rows(N), plain)
            params, phi = trained(model, world, dist.group.WORLD, None, parts=quarters(1), when=when)
            assert error([phi], [whole_phi]) < 1e-10, (settings, when)
            assert error(params, whole) < 1e-10, (settings, when)


def on_two_ranks_a_precision_policy_leaves_the_outer_step_in_float32() -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy

    model, plain = sharded(mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    exact = World(network(), ALL)
    found = World(model, rows(N), plain)
    settings: Any = {"kind": "Hessian", "solver": Neumann(terms=5, alpha=0.1)}
    truth = exact.solved(**settings, group="local")
    assert error(found.solved(**settings, group=dist.group.WORLD), truth) < 1e-10
    if passes_of_shards():
        out = model(X[rows(N)])
        assert out.dtype == torch.bfloat16
        out.float().sum().backward()
        found = World(model, rows(N), plain)
        assert error(found.solved(**settings, group=dist.group.WORLD), truth) < 1e-10
    # Autocast leaves float64 alone, and makes the twin round as one process would.
    model, plain = sharded(mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16), dtype=torch.float32)
    found = World(model, rows(N), plain)
    with torch.autocast("cpu", torch.bfloat16):
        half = single(found)
    solved = hypergradient(
        *half,
        params=found.params,
        aux_params=[found.phi],
        damping=0.1,
        solver=settings["solver"],
        group=dist.group.WORLD,
    )
    assert 1e-6 < error([g.double() for g in solved.grads], truth) < 2e-2


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return outcomes(__file__, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", names(globals()))
def test_on_two_ranks(name: str, found: Outcomes) -> None:
    passed(found, name)
