"""Three ranks: what two cannot show, such as parts of three lengths, and shards of which the last one is empty."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from auxilearn import Vector, hypergradient
from auxilearn.curvature import FiniteDifference, GaussNewton, Hessian, LossCurvature
from auxilearn.distributed import Unsharded, share
from auxilearn.optim import MetaOptimizer
from auxilearn.solvers import ConjugateGradient, Neumann, Nystrom, OptimizerMetric
from support import normal
from two_ranks import Outcomes, names, outcomes, passed, same_on_all

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")

N = 24
ALL = slice(0, N)
X, Y = normal(N, 3, dtype=torch.float64), normal(N, 2, dtype=torch.float64, seed=1)


def part() -> slice:
    """Return this rank's rows: 1, 2, … parts of the whole, the last rank has the rest."""
    size, rank = dist.get_world_size(), dist.get_rank()
    unit = N // (size * (size + 1) // 2 + 1)
    begin = unit * rank * (rank + 1) // 2
    return slice(begin, N if rank == size - 1 else begin + unit * (rank + 1))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def error(found: Any, exact: Any) -> float:
    a, b = (Vector([t.detach() for t in side]).flat() for side in (found, exact))
    return float((a - b).norm() / b.norm())


def losses(net: nn.Module, phi: Tensor, at: slice, group: Any) -> tuple[Tensor, Tensor, Tensor]:
    out = net(X[at])
    each, main = (out - Y[at]).square() @ phi.exp(), (out - 1)[:, 0].square()
    count = at.stop - at.start
    return (
        share(each.mean(), count, group=group),
        share(main.mean(), count, group=group) + 0.1 * phi.square().sum(),
        out,
    )


def solved(model: nn.Module, plain: Unsharded | None, at: slice, group: Any, kind: str, solver: Any) -> tuple[Any, Any]:
    phi = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def both() -> tuple[Tensor, Tensor, Tensor]:
        if plain is None:
            return losses(model, phi, at, group)
        with plain.of(model) as net:
            return losses(net, phi, at, group)

    train, outer, out = both()
    operator: LossCurvature = Hessian(train, model.parameters(), damping=0.1)
    if kind == "GaussNewton":
        operator = GaussNewton(train, out, model.parameters(), damping=0.1)
    if kind == "FiniteDifference":
        operator = FiniteDifference(lambda: both()[0], model.parameters(), damping=0.1)
    settings: Any = {"params": (), "aux_params": [phi], "solver": solver, "group": group}
    return hypergradient(operator, outer, **settings).grads, phi


def on_two_ranks_every_layout_of_the_weights_is_exact_on_uneven_parts() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    world = dist.get_world_size()
    layouts: list[tuple[nn.Module, Unsharded | None]] = [(DistributedDataParallel(network()), None)]
    meshes = [None, (1, world), (world, 1)] + ([(2, 2)] if world == 4 else [])
    for shape in meshes:
        model = network()
        plain = Unsharded(model)
        mesh = None if shape is None else init_device_mesh("cpu", shape, mesh_dim_names=("copies", "shards"))
        for layer in (model[0], model[2]):
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        layouts.append((model, plain))
    makers = [
        lambda _: Neumann(terms=5),
        lambda _: ConjugateGradient(max_steps=6),
        lambda _: Nystrom(rank=4),
        lambda optimizer: Neumann(terms=4, preconditioner=OptimizerMetric(optimizer)),
    ]
    for model, plain in layouts:
        whole = network()
        optimizers = [torch.optim.Adam(m.parameters(), lr=1e-2) for m in (model, whole)]
        for m, optimizer in zip((model, whole), optimizers, strict=True):
            for p in m.parameters():
                p.grad = torch.full_like(p, 0.1)
            optimizer.step()
            optimizer.zero_grad()
        for kind in ("Hessian", "GaussNewton", "FiniteDifference"):
            for make in makers:
                found, _ = solved(model, plain, part(), dist.group.WORLD, kind, make(optimizers[0]))
                truth = "Hessian" if kind == "FiniteDifference" else kind
                exact, _ = solved(whole, None, ALL, "local", truth, make(optimizers[1]))
                limit = 1e-6 if kind == "FiniteDifference" else 1e-10
                assert error(found, exact) < limit, (kind, make(optimizers[0]), error(found, exact))
                assert all(map(same_on_all, found))


def on_two_ranks_training_with_outer_steps_equals_one_process() -> None:
    from torch.nn.parallel import DistributedDataParallel

    def run(model: nn.Module, at: slice, group: Any) -> list[Tensor]:
        phi = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        inner = torch.optim.SGD(model.parameters(), lr=0.05)
        meta = MetaOptimizer(torch.optim.Adam([phi], lr=0.1), max_grad_norm=1e-2, group=group)
        for _ in range(5):
            inner.zero_grad()
            losses(model, phi.detach(), at, group)[0].backward()
            inner.step()
            meta.step(*losses(model, phi, at, group)[:2], model.parameters(), [phi])
        return [*model.parameters(), phi]

    found = run(DistributedDataParallel(deepcopy(network())), part(), dist.group.WORLD)
    assert error(found, run(network(), ALL, "local")) < 1e-9
    assert all(map(same_on_all, found))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return outcomes(__file__, tmp_path_factory.mktemp("ranks"), size=3)


@pytest.mark.parametrize("name", names(globals()))
def test_on_three_ranks(name: str, found: Outcomes) -> None:
    passed(found, name)
