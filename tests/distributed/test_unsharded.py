"""Weights that are sharded (FSDP2) or tensor parallel have the hypergradient of one process with the full batch."""

import warnings
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from auxilearn import Vector, hypergradient, usefulness
from auxilearn._vectors import is_distributed
from auxilearn.curvature import CurvatureOperator
from auxilearn.distributed import Unsharded
from auxilearn.distributed._gather import ALL_GATHER, REDUCE_SCATTER
from auxilearn.errors import InputError, SecondOrderError
from auxilearn.optim import MetaOptimizer
from auxilearn.safety import second_order
from auxilearn.solvers import (
    ConjugateGradient,
    Dense,
    LinearSolver,
    Neumann,
    Nystrom,
    OptimizerMetric,
    Solution,
    WarmStart,
)
from support import normal
from two_ranks import Outcomes, counted, names, outcomes, passed, rows, same_on_all

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")

N = 16
ALL = slice(0, N)
X, Y, Z = (normal(N, n, dtype=torch.float64, seed=n) for n in (3, 2, 1))
LOCAL: Any = "local"


class Net(nn.Module):
    """Odd sizes, so that shards are uneven; batch statistics; and a weight that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.norm = nn.BatchNorm1d(5)
        self.again = nn.Linear(5, 5)
        self.tied = nn.Linear(5, 5)
        self.tied.weight = self.again.weight
        self.last = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.tied(torch.tanh(self.again(self.norm(self.first(x)))))))


class Weigher(nn.Module):
    """A network for φ."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))

    def forward(self, losses: Tensor) -> Tensor:
        return self.net(losses).exp().mean()


def pair(module: nn.Module) -> tuple[nn.Module, Unsharded, nn.Module]:
    """Return a module sharded, its twin, and the same module whole."""
    from torch.distributed.fsdp import fully_shard

    whole = module.double()
    sharded, plain = deepcopy(whole), Unsharded(deepcopy(whole))
    for part in (p for p in sharded.modules() if isinstance(p, (nn.Linear, nn.BatchNorm1d))):
        if "tied" not in [n for n, m in sharded.named_modules() if m is part] and not isinstance(sharded, Net):
            fully_shard(part)
    fully_shard(sharded)
    return sharded, plain, whole


def needs_passes_of_shards() -> None:
    """Skip where torch's `fully_shard` itself cannot run a pass on the CPU (2.6 asks for the events of a stream)."""
    from torch.distributed.fsdp import fully_shard

    try:
        fully_shard(nn.Linear(2, 2))(torch.ones(1, 2))
    except AttributeError:
        pytest.skip("fully_shard of this torch does not run on the CPU")


def losses_of(net: nn.Module, at: slice) -> Tensor:
    return (net(X[at]) - Y[at]).square()


def error(found: Any, exact: Any) -> float:
    a, b = (Vector([t.detach() for t in side]).flat() for side in (found, exact))
    return float((a - b).norm() / b.norm())


def fixed_statistics(module: nn.Module) -> nn.Module:
    """Use the running statistics: those of a part of the batch are no part of the mean."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.eval()
    return module


class Watching(LinearSolver):
    """A solver that looks at the vectors."""

    def __init__(self, solver: LinearSolver) -> None:
        self.solver, self.sharded = solver, True

    def solve(self, H: CurvatureOperator, v: Vector, /) -> Solution:
        found = self.solver.solve(H, v)
        for vector in (v, found.x, H @ v):
            self.sharded &= all(is_distributed(t) for t in vector)
        return found


def on_two_ranks_every_solver_has_the_hypergradient_of_the_full_batch() -> None:
    sharded, plain, whole = pair(Net())
    weigher, plain_weigher, whole_weigher = pair(Weigher())
    phi = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    for module in (sharded, whole):
        fixed_statistics(module)
    adam, whole_adam = (torch.optim.Adam(m.parameters(), lr=1e-2) for m in (sharded, whole))
    for module, optimizer in ((sharded, adam), (whole, whole_adam)):
        for p in module.parameters():
            p.grad = torch.full_like(p, 0.1)
        optimizer.step()
        optimizer.zero_grad()

    def both(net: nn.Module, weigh: nn.Module, at: slice) -> tuple[Tensor, Tensor]:
        each = losses_of(net, at)
        return weigh(each) + (each @ phi.exp()).mean(), each[:, 0].mean() + 0.1 * (phi**2).sum()

    makers: list[tuple[LinearSolver, LinearSolver]] = [
        (Neumann(terms=5), Neumann(terms=5)),
        (ConjugateGradient(max_steps=8), ConjugateGradient(max_steps=8)),
        (Nystrom(rank=4), Nystrom(rank=4)),
        (Dense(), Dense()),
        (WarmStart(Neumann(terms=2)), WarmStart(Neumann(terms=2))),
        (
            Neumann(terms=5, preconditioner=OptimizerMetric(adam), measure_residual=True),
            Neumann(terms=5, preconditioner=OptimizerMetric(whole_adam), measure_residual=True),
        ),
    ]
    aux, whole_aux = [phi, *weigher.parameters()], [phi, *whole_weigher.parameters()]
    for ours, truth in makers:
        watching = Watching(ours)
        for _ in range(2):
            with second_order(sharded, weigher), plain.of(sharded) as net, plain_weigher.of(weigher) as weigh:
                train, val = both(net, weigh, rows(N))
            settings: Any = {"solver": watching, "group": dist.group.WORLD}
            found = hypergradient(train, val, params=sharded.parameters(), aux_params=aux, **settings)
            settings = {"solver": truth, "group": LOCAL}
            exact = hypergradient(
                *both(whole, whole_weigher, ALL), params=whole.parameters(), aux_params=whole_aux, **settings
            )
            assert error(found.grads, exact.grads) < 1e-10, (ours, error(found.grads, exact.grads))
            assert same_on_all(found.grads[0])
            assert all(map(is_distributed, found.grads[1:]))
        assert watching.sharded, ours
        # The memory goes through a checkpoint, into shards or the whole.
        state = ours.state_dict()
        ours.load_state_dict(state)
        truth.load_state_dict({k: [t.full_tensor() for t in v] if isinstance(v, list) else v for k, v in state.items()})
        hypergradient(*both(whole, whole_weigher, ALL), params=whole.parameters(), aux_params=whole_aux, **settings)


def on_two_ranks_training_goes_on_unharmed() -> None:
    needs_passes_of_shards()

    def run(module: nn.Module, plain: Unsharded | None, at: slice) -> tuple[list[Tensor], Tensor]:
        phi = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        fixed_statistics(module)
        inner = torch.optim.Adam(module.parameters(), lr=1e-2)
        meta = MetaOptimizer(
            torch.optim.Adam([phi], lr=0.1), max_grad_norm=1e-3, group=LOCAL if plain is None else dist.group.WORLD
        )
        for step in range(5):
            inner.zero_grad()
            (losses_of(module, at) @ phi.detach().exp()).mean().backward()
            inner.step()
            if step % 2 == 0:
                if plain is None:
                    each = losses_of(module, at)
                else:
                    with torch.no_grad():
                        module(X[at])  # leaves the root gathered
                    with second_order(module), plain.of(module) as net:
                        each = losses_of(net, at)
                meta.step((each @ phi.exp()).mean(), each[:, 0].mean(), module.parameters(), [phi])
        return list(module.parameters()), phi

    sharded, plain, whole = pair(Net())
    params, phi = run(sharded, plain, rows(N))
    whole_params, whole_phi = run(whole, None, ALL)
    assert error([phi], [whole_phi]) < 1e-9
    assert error(params, whole_params) < 1e-9
    assert same_on_all(phi)


def on_two_ranks_the_twin_leaves_no_trace() -> None:
    sharded, plain, _ = pair(Net())
    before = {n: b.clone() for n, b in sharded.named_buffers()}
    with plain.of(sharded) as net:
        assert type(net) is Net
        assert net.training
        assert net.tied.weight is net.again.weight
        assert [n for n, _ in net.named_parameters()] == [n for n, _ in sharded.named_parameters()]
        net(X)
        assert not torch.equal(net.norm.running_mean, before["norm.running_mean"])
    assert all(torch.equal(b, before[n]) for n, b in sharded.named_buffers())
    assert all(p.is_meta for p in net.parameters())
    sharded.eval()
    with plain.of(sharded) as net:
        assert not net.norm.training
    with pytest.raises(InputError, match="names of parameters"), plain.of(nn.Linear(2, 2)):
        pass
    with pytest.raises(InputError, match="before it is sharded"):
        Unsharded(sharded)


def on_two_ranks_losses_of_the_sharded_network_itself_are_refused() -> None:
    needs_passes_of_shards()
    sharded, _, _ = pair(Net())
    phi = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    each = losses_of(sharded, rows(N))
    with pytest.raises(InputError, match="Unsharded"):
        hypergradient(
            (each @ phi.exp()).mean(),
            each[:, 0].mean(),
            params=sharded.parameters(),
            aux_params=[phi],
            group=dist.group.WORLD,
        )


def on_two_ranks_a_rank_that_fails_stops_all() -> None:
    sharded, plain, _ = pair(Net())
    phi = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    with plain.of(sharded) as net:
        each = losses_of(net, rows(N))
    broken = float("nan") if dist.get_rank() else 1.0
    settings: Any = {"params": list(sharded.parameters()), "aux_params": [phi], "group": dist.group.WORLD}
    with pytest.raises(InputError, match="must be finite" if dist.get_rank() else "Another rank"):
        hypergradient((each @ phi.exp()).mean() * broken, each[:, 0].mean(), **settings)
    with pytest.raises(InputError, match="There are 2 ranks"):
        hypergradient((each @ phi.exp()).mean(), each[:, 0].mean(), **{**settings, "group": None})


def compare(model: nn.Module, plain: Unsharded, whole: nn.Module, **settings: Any) -> None:
    """Assert that the ranks' hypergradient is that of one process with the full batch."""
    phi = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    with plain.of(model) as net:
        each = losses_of(net, rows(N))
    settings |= {"aux_params": [phi]}
    found = hypergradient(
        (each @ phi.exp()).mean(), each[:, 0].mean(), params=model.parameters(), **settings, group=dist.group.WORLD
    )
    each = losses_of(whole, ALL)
    exact = hypergradient(
        (each @ phi.exp()).mean(), each[:, 0].mean(), params=whole.parameters(), **settings, group=LOCAL
    )
    assert error(found.grads, exact.grads) < 1e-10


def on_two_ranks_a_plain_parameter_beside_shards_is_averaged() -> None:
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    whole, plain = deepcopy(model), Unsharded(model)
    fully_shard(model[2])  # the first layer stays whole
    for solver in (ConjugateGradient(), Neumann(terms=4, alpha=0.1), Dense()):
        compare(model, plain, whole, solver=solver, damping=0.1)


def on_two_ranks_usefulness_is_that_of_the_full_batch() -> None:
    sharded, plain, whole = pair(Net())
    for module in (sharded, whole):
        fixed_statistics(module)
    with plain.of(sharded) as net:
        each = losses_of(net, rows(N))
    settings: Any = {"solver": ConjugateGradient(max_steps=5), "damping": 0.1}
    batch = (each.mean(), each[:, 0].mean(), each.mean(0))
    found = usefulness([batch], params=sharded.parameters(), **settings, group=dist.group.WORLD)
    each = losses_of(whole, ALL)
    batch = (each.mean(), each[:, 0].mean(), each.mean(0))
    exact = usefulness([batch], params=whole.parameters(), **settings, group=LOCAL)
    assert error([found.score], [exact.score]) < 1e-10
    assert same_on_all(found.score)


def on_two_ranks_a_product_is_two_messages() -> None:
    sharded, plain, _ = pair(Weigher())
    phi = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    padded = 8 + 4 + 6 + 2  # weights of (3, 2), (3,), (1, 3) and (1,) in equal shards on two ranks
    with counted() as sent:
        with plain.of(sharded) as net:
            loss = net(X[rows(N), :2])
        hypergradient(
            loss * phi.exp().sum() + phi.sum(),
            loss,
            params=sharded.parameters(),
            aux_params=[phi],
            solver=Neumann(terms=5, alpha=1e-3),
            group=dist.group.WORLD,
        )
    # The weights; a vector for every product; the solution for the mixed product.
    assert sent[ALL_GATHER] == [padded] * (1 + 5 + 1)
    # ∂_W L_T, ∂_W L_A, and every product.
    assert sent[REDUCE_SCATTER] == [padded // 2] * (2 + 5)
    # Two greetings; ∂_φ L_A and two flags a weight; the mixed product and its flag.
    assert sent["all_reduce"][:2] == [5, 5]
    assert [n for n in sent["all_reduce"] if n > 1] == [5, 5, 1 + 2 * 4, 2]


def on_two_ranks_hybrid_shards_are_exact() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for shape in ((2, 1), (1, 2)):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        whole, plain = deepcopy(model), Unsharded(model)
        fully_shard(model, mesh=init_device_mesh("cpu", shape, mesh_dim_names=("copies", "shards")))
        compare(model, plain, whole, solver=ConjugateGradient())


def on_two_ranks_tensor_parallel_weights_are_exact() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.up, self.down = nn.LayerNorm(3), nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(torch.tanh(self.up(self.norm(x))))

    torch.manual_seed(1)
    whole = Block().double()
    model, plain = deepcopy(whole), Unsharded(whole)
    mesh = init_device_mesh("cpu", (2,))
    parallelize_module(model, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    phi = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    adam, whole_adam = (torch.optim.Adam(m.parameters(), lr=1e-2) for m in (model, whole))

    def solved(module: nn.Module, each: Tensor, solver: LinearSolver, group: Any) -> tuple[Tensor, ...]:
        losses = (each @ phi.exp()).mean(), each[:, 0].mean()
        settings: Any = {"aux_params": [phi], "solver": solver, "damping": 0.1, "group": group}
        return hypergradient(*losses, params=module.parameters(), **settings).grads

    solvers: list[tuple[LinearSolver, LinearSolver]] = [
        (Neumann(terms=5), Neumann(terms=5)),
        (ConjugateGradient(), ConjugateGradient()),
        (Dense(), Dense()),
        (Nystrom(4), Nystrom(4)),
        (Neumann(preconditioner=OptimizerMetric(adam)), Neumann(preconditioner=OptimizerMetric(whole_adam))),
    ]
    for _ in range(2):
        for module, optimizer in ((model, adam), (whole, whole_adam)):
            optimizer.zero_grad()
            losses_of(module, ALL).mean().backward()
            optimizer.step()
        # All ranks have the same data: their mean is theirs.
        for ours, truth in solvers:
            with plain.of(model) as net:
                found = solved(model, losses_of(net, ALL), ours, dist.group.WORLD)
            exact = solved(whole, losses_of(whole, ALL), truth, LOCAL)
            assert error(found, exact) < 1e-10, (ours, error(found, exact))
    assert error(model.parameters(), whole.parameters()) < 1e-10
    with pytest.raises(SecondOrderError, match="Unsharded"):  # the weights of the norm stand before `up`
        solved(model, losses_of(model, ALL), Neumann(), dist.group.WORLD)
    with pytest.raises(InputError, match="There are 2 ranks"):
        solved(model, losses_of(model, ALL), Neumann(), None)
    for p in model.norm.parameters():
        p.requires_grad_(False)
    for p in whole.norm.parameters():
        p.requires_grad_(False)
    try:
        found = solved(model, losses_of(model, ALL), ConjugateGradient(), LOCAL)
    except SecondOrderError:  # older releases of torch
        return
    assert error(found, solved(whole, losses_of(whole, ALL), ConjugateGradient(), LOCAL)) < 1e-10


def on_two_ranks_weights_in_unknown_places_are_refused() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial

    model = nn.Linear(2, 2)
    plain, mesh = Unsharded(model), init_device_mesh("cpu", (2,))
    model.weight = nn.Parameter(DTensor.from_local(torch.ones(2, 2), mesh, [Partial()], run_check=False))
    with pytest.raises(InputError, match="Partial"), plain.of(model):
        pass
    assert all(p.is_meta for p in plain._twin.parameters())


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return outcomes(__file__, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", names(globals()))
def test_on_two_ranks(name: str, found: Outcomes) -> None:
    passed(found, name)


def test_the_twin_of_a_network_that_is_not_sharded_is_the_network() -> None:
    model = Net().double()
    plain = Unsharded(model)
    with plain.of(model) as net, warnings.catch_warnings():
        warnings.simplefilter("error")
        found = torch.autograd.grad(losses_of(net, ALL).mean(), list(model.parameters()))
    exact = torch.autograd.grad(losses_of(model, ALL).mean(), list(model.parameters()))
    assert all(map(torch.equal, found, exact))
    with pytest.raises(InputError, match="Pass the module"):
        Unsharded(losses_of)  # type: ignore[arg-type]
