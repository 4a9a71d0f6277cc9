"""Networks wrapped by DistributedDataParallel, Accelerate or Lightning Fabric: exact, and they train on unharmed."""

import warnings
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from auxilearn import Vector
from auxilearn.errors import InputError
from auxilearn.optim import MetaOptimizer
from auxilearn.safety import second_order
from auxilearn.solvers import Neumann
from support import normal
from two_ranks import Outcomes, names, outcomes, passed, rows, same_on_all

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")

N = 16
ALL = slice(0, N)
X, Y = normal(N, 3, dtype=torch.float64), normal(N, 2, dtype=torch.float64, seed=1)


class Weigher(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()

    def forward(self, losses: Tensor) -> Tensor:
        return self.net(losses).exp().mean()


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def error(found: Any, exact: Any) -> float:
    a, b = (Vector([t.detach() for t in side]).flat() for side in (found, exact))
    return float((a - b).norm() / b.norm())


def trained(net: Any, weigh: Any, at: slice, group: Any, *, first: int = 0, through: bool = True, **how: Any) -> None:
    """Take five training steps and, from one of them on, an outer step before each."""
    params, phi = list(net.parameters()), list(weigh.parameters())
    inner, outer = torch.optim.SGD(params, lr=0.05), torch.optim.Adam(phi, lr=0.05)
    meta = MetaOptimizer(outer, solver=Neumann(terms=4), max_grad_norm=1e-3, group=group)
    backward = how.get("backward", lambda loss: loss.backward())
    for step in range(5):
        if step >= first:
            inside = net if through or group == "local" else net.module
            with second_order(net, weigh):
                each = (inside(X[at]) - Y[at]).square()
                main = (inside(X[at]) - Y[at]).square()[:, 0].mean()
            meta.step(weigh(each), main, params, phi)
        inner.zero_grad()
        backward(weigh((net(X[at]) - Y[at]).square()))
        for p in phi:
            p.grad = None
        inner.step()


def compare(wrapped: tuple[Any, Any], alone: tuple[nn.Module, nn.Module], **how: Any) -> None:
    trained(*wrapped, rows(N), dist.group.WORLD, **how)
    how.pop("backward", None)
    trained(*alone, ALL, "local", **how)
    for ours, truth in zip(wrapped, alone, strict=True):
        assert error(ours.parameters(), truth.parameters()) < 1e-10, how
        assert all(map(same_on_all, ours.parameters()))


def on_two_ranks_networks_in_ddp_are_exact_and_train_on() -> None:
    from torch.nn.parallel import DistributedDataParallel

    kinds: list[dict[str, bool]] = [{}, {"find_unused_parameters": True}, {"gradient_as_bucket_view": True}]
    for settings in kinds:
        for how in ({"through": True}, {"through": False, "first": 2}):
            model, weigher = network(), Weigher()
            wrapped = DistributedDataParallel(deepcopy(model), **settings), deepcopy(weigher)
            compare(wrapped, (model, weigher), **how)
    model, weigher = network(), Weigher()
    compare((DistributedDataParallel(deepcopy(model)), DistributedDataParallel(deepcopy(weigher))), (model, weigher))


def on_two_ranks_a_static_graph_is_exact_after_its_first_backward_and_refused_before() -> None:
    from torch.nn.parallel import DistributedDataParallel

    model, weigher = network(), Weigher()
    wrapped = DistributedDataParallel(deepcopy(model), static_graph=True)
    phi = deepcopy(weigher)
    meta = MetaOptimizer(torch.optim.SGD(phi.parameters(), lr=0.1), group=dist.group.WORLD)
    at = rows(N)
    each, inside = (wrapped(X[at]) - Y[at]).square(), (wrapped.module(X[at]) - Y[at]).square()
    for losses in ((phi(each), inside[:, 0].mean()), (phi(inside), each[:, 0].mean())):
        with pytest.raises(InputError, match=r"ddp\.module"):
            meta.step(*losses, wrapped.parameters(), phi.parameters())
    del each, inside
    # The refusal has done no harm, and `ddp.module` is always right.
    compare((wrapped, phi), (deepcopy(model), deepcopy(weigher)), through=False)
    wrapped = DistributedDataParallel(deepcopy(model), static_graph=True)
    compare((wrapped, deepcopy(weigher)), (model, weigher), first=1)


def on_two_ranks_buffers_are_left_alone() -> None:
    from torch.nn.parallel import DistributedDataParallel

    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    wrapped, weigher = DistributedDataParallel(model), Weigher()
    meta = MetaOptimizer(torch.optim.SGD(weigher.parameters(), lr=0.1), group=dist.group.WORLD)
    before = [b.clone() for b in model.buffers()]
    for _ in range(2):
        with second_order(wrapped, weigher):
            each = (wrapped(X[rows(N)]) - Y[rows(N)]).square()
        meta.step(weigher(each), each[:, 0].mean(), wrapped.parameters(), weigher.parameters())
    assert all(map(torch.equal, before, model.buffers()))
    weigher(wrapped(X[rows(N)]).square()).backward()
    assert all(same_on_all(p.grad) for p in model.parameters() if p.grad is not None)


def on_two_ranks_accelerate_is_exact() -> None:
    accelerate = pytest.importorskip("accelerate")
    import os

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ.update(RANK=str(dist.get_rank()), WORLD_SIZE="2", LOCAL_RANK=str(dist.get_rank()))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511", ACCELERATE_USE_CPU="true")
        accelerator = accelerate.Accelerator(cpu=True)
        assert accelerator.num_processes == 2
        model, weigher = network(), Weigher()
        wrapped = accelerator.prepare(deepcopy(model))
        assert type(wrapped).__name__ == "DistributedDataParallel"
        compare((wrapped, deepcopy(weigher)), (model, weigher), backward=accelerator.backward)


def on_two_ranks_lightning_fabric_is_exact() -> None:
    fabric_of = pytest.importorskip("lightning.fabric")
    from lightning.fabric.plugins.environments import ClusterEnvironment
    from lightning.fabric.strategies import DDPStrategy

    class Ours(ClusterEnvironment):
        """The group is there already."""

        creates_processes_externally = True
        main_address, main_port = "127.0.0.1", 0
        detect = staticmethod(lambda: True)

        def world_size(self) -> int:
            return 2

        def set_world_size(self, size: int) -> None: ...

        def global_rank(self) -> int:
            return dist.get_rank()

        def set_global_rank(self, rank: int) -> None: ...

        def local_rank(self) -> int:
            return dist.get_rank()

        def node_rank(self) -> int:
            return 0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        strategy = DDPStrategy(cluster_environment=Ours(), process_group_backend="gloo")
        fabric = fabric_of.Fabric(accelerator="cpu", devices=2, strategy=strategy)
        fabric.launch()
        model, weigher = network(), Weigher()
        ours = deepcopy(model)
        wrapped, _ = fabric.setup(ours, torch.optim.SGD(ours.parameters(), lr=0.1))
        compare((wrapped, deepcopy(weigher)), (model, weigher), backward=fabric.backward)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return outcomes(__file__, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", names(globals()))
def test_on_two_ranks(name: str, found: Outcomes) -> None:
    passed(found, name)
