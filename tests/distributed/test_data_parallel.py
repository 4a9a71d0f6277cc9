"""Plain data parallel: every rank gets the hypergradient of one process with the full batch."""

import math
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from auxilearn import BilevelProblem, Vector, _vectors, check_hypergradient, hypergradient, unrolled, usefulness
from auxilearn.combiners import Linear, Standardized
from auxilearn.curvature import CurvatureOperator, FiniteDifference, GaussNewton, Hessian, LossCurvature, Streamed
from auxilearn.distributed import independent, share
from auxilearn.distributed._averaged import Averaged
from auxilearn.distributed._ranks import Ranks
from auxilearn.errors import InputError, SolverError, SolverWarning
from auxilearn.optim import MetaOptimizer
from auxilearn.solvers import (
    ConjugateGradient,
    Dense,
    Identity,
    LinearSolver,
    Neumann,
    Nystrom,
    OptimizerMetric,
    SingleLoop,
    Solution,
    WarmStart,
)
from auxilearn.training import Problem as TrainingProblem
from auxilearn.training import Trainer, Training
from auxilearn.weighting import Step
from support import normal
from two_ranks import Outcomes, counted, names, outcomes, passed, rows, same_on_all

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")

N = 16
X, Y, Z = normal(N, 3, dtype=torch.float64), normal(N, 2, dtype=torch.float64, seed=1), normal(N, 2, seed=2).double()


class Problem:
    """A small network, two losses a sample, and auxiliary parameters in both losses of the hypergradient."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        self.phi = [torch.zeros(2, dtype=torch.float64, requires_grad=True), nn.Parameter(torch.full((), 0.3).double())]

    @property
    def params(self) -> list[nn.Parameter]:
        return list(self.model.parameters())

    def train(self, at: slice, net: nn.Module | None = None) -> Tensor:
        out = (self.model if net is None else net)(X[at])
        return self.of_outputs(out, at)

    def of_outputs(self, out: Tensor, at: slice) -> Tensor:
        each = (out - Y[at]).square() @ self.phi[0].exp()
        decay = sum(p.square().sum() for p in self.params)
        return each.mean() + 0.1 * self.phi[1].exp() * decay

    def val(self, at: slice, net: nn.Module | None = None) -> Tensor:
        out = (self.model if net is None else net)(X[at])
        return (out - Z[at]).square().mean() + 0.01 * self.phi[1] ** 2

    def hypergradient(self, at: slice, group: object, solver: LinearSolver | None = None) -> tuple[Tensor, ...]:
        found = hypergradient(
            self.train(at), self.val(at), params=self.params, aux_params=self.phi, solver=solver, group=group
        )
        return found.grads


def error(found: Iterable[Tensor], exact: Iterable[Tensor]) -> float:
    a, b = (torch.cat([t.detach().flatten() for t in side]) for side in (found, exact))
    return float((a - b).norm() / b.norm())


ALL = slice(0, N)


def on_two_ranks_every_solver_has_the_hypergradient_of_the_full_batch() -> None:
    problem = Problem()
    optimizer = torch.optim.Adam(problem.params, lr=0.1)
    problem.train(ALL).backward()
    optimizer.step()
    solvers: list[Callable[[], LinearSolver]] = [
        Identity,
        Neumann,
        lambda: Neumann(terms=20, alpha=0.05),
        ConjugateGradient,
        lambda: Nystrom(rank=5),
        Dense,
        SingleLoop,
        lambda: WarmStart(Neumann(terms=5)),
        lambda: Neumann(terms=5, preconditioner=OptimizerMetric(optimizer)),
        lambda: ConjugateGradient(max_steps=8, preconditioner=OptimizerMetric(optimizer), measure_residual=True),
    ]
    for make in solvers:
        ours, truth = make(), make()
        for _ in range(2):  # the second call goes on from what the first one left in the memory
            found = problem.hypergradient(rows(N), dist.group.WORLD, ours)
            exact = problem.hypergradient(ALL, "local", truth)
            assert error(found, exact) < 1e-10, (ours, error(found, exact))
            assert all(map(same_on_all, found)), ours


def on_two_ranks_every_operator_has_the_product_of_the_full_batch() -> None:
    problem = Problem()

    def gauss_newton(at: slice) -> LossCurvature:
        out = problem.model(X[at])
        return GaussNewton(problem.of_outputs(out, at), out, problem.params, damping=0.1)

    def streamed(at: slice) -> LossCurvature:
        middle = (at.start + at.stop) // 2
        halves = [slice(at.start, middle), slice(middle, at.stop)]
        return Streamed(lambda half: Hessian(problem.train(half), problem.params), halves, damping=0.1)

    def differences(at: slice) -> LossCurvature:
        return FiniteDifference(lambda: problem.train(at), problem.params, damping=0.1)

    for build, tolerance in ((gauss_newton, 1e-10), (streamed, 1e-10), (differences, 1e-6)):
        solve = partial(hypergradient, params=(), aux_params=problem.phi, solver=ConjugateGradient())
        found = solve(build(rows(N)), problem.val(rows(N)), group=dist.group.WORLD)
        exact = solve(build(ALL), problem.val(ALL), group="local")
        assert error(found.grads, exact.grads) < tolerance, (build, error(found.grads, exact.grads))
        mean = Averaged(build(rows(N)), problem.params, Ranks(dist.group.WORLD, torch.device("cpu"))).gradient()
        assert error(mean, build(ALL).gradient()) < 1e-10


def on_two_ranks_a_product_is_one_message() -> None:
    problem = Problem()
    weights = sum(p.numel() for p in problem.params)
    settings = {"params": problem.params, "aux_params": problem.phi, "group": dist.group.WORLD}
    for solver in (Neumann(terms=7, alpha=0.01), Neumann(), ConjugateGradient(max_steps=5, tolerance=0.0)):
        with counted() as sent:
            found = hypergradient(problem.train(rows(N)), problem.val(rows(N)), **settings, solver=solver)
        terms = found.report.products
        assert terms >= 2
        large = [n for n in sent["all_reduce"] if n >= weights]
        # ∂_W L_A and ∂_φ L_A, with two flags a weight, in one; every product; the mixed product and its flags.
        assert large == [weights + 3 + 2 * len(problem.params)] + [weights] * terms
        small = [n for n in sent["all_reduce"] if n < weights]
        assert small == [5, 3 + 2], small
        assert set(sent["broadcast"]) <= {1, 2, 3}  # inner products, whose number is the solver's
        assert len(sent["broadcast"]) <= 3 * terms + 8


def on_two_ranks_uneven_batches_are_exact_by_their_share() -> None:
    problem = Problem()
    at = slice(0, 5) if dist.get_rank() == 0 else slice(5, N)
    count = at.stop - at.start
    wrong = problem.hypergradient(at, dist.group.WORLD, ConjugateGradient())
    exact = problem.hypergradient(ALL, "local", ConjugateGradient())
    assert error(wrong, exact) > 1e-3

    def data_part(at: slice) -> Tensor:
        return ((problem.model(X[at]) - Y[at]).square() @ problem.phi[0].exp()).mean()

    train = share(data_part(at), count) + problem.train(at) - data_part(at)  # the penalty is no mean over samples
    val = share((problem.model(X[at]) - Z[at]).square().mean(), torch.tensor(count)) + 0.01 * problem.phi[1] ** 2
    settings = {"params": problem.params, "aux_params": problem.phi, "solver": ConjugateGradient()}
    found = hypergradient(train, val, **settings, group=dist.group.WORLD)
    assert error(found.grads, exact) < 1e-10

    # Two losses of which a rank may have no row at all; so does the gradient under DistributedDataParallel.
    losses = torch.stack([torch.tensor(3.0 + 2 * dist.get_rank()), torch.tensor(math.nan if count == 5 else 7.0)])
    counts = torch.tensor([1, 0] if count == 5 else [3, 4])
    shared = share(losses.requires_grad_(), counts)
    (gradient,) = torch.autograd.grad(shared.sum(), losses)
    dist.all_reduce(shared.detach())
    assert torch.allclose(shared / 2, torch.tensor([(3 * 1 + 5 * 3) / 4, 7.0]))
    assert gradient.isfinite().all()
    assert share(torch.tensor(2.0), 3, group="local") == 2.0
    for wrong_counts in (0, -1 if dist.get_rank() else 4):
        with pytest.raises(InputError, match="number of samples"):
            share(torch.tensor(1.0), wrong_counts)


def on_two_ranks_weights_that_one_rank_does_not_reach_count_as_zero_there() -> None:
    problem = Problem()
    head = nn.Parameter(torch.ones(2, dtype=torch.float64))
    first = dist.get_rank() == 0
    params = [*problem.params, head]

    def train(at: slice, *, with_head: bool) -> Tensor:
        loss = problem.train(at)
        return loss + (problem.phi[0] * (head - problem.model(X[at])).square().mean(0)).sum() if with_head else loss

    def val(at: slice, *, with_head: bool) -> Tensor:
        return problem.val(at) + (head**3).sum() if with_head else problem.val(at)

    solve = partial(hypergradient, params=params, aux_params=problem.phi, damping=0.5, solver=ConjugateGradient())
    found = solve(train(rows(N), with_head=first), val(rows(N), with_head=not first), group=dist.group.WORLD)
    halves = [slice(0, N // 2), slice(N // 2, N)]
    whole = (train(halves[0], with_head=True) + train(halves[1], with_head=False)) / 2
    exact = solve(whole, (val(halves[0], with_head=False) + val(halves[1], with_head=True)) / 2, group="local")
    assert error(found.grads, exact.grads) < 1e-10


def on_two_ranks_nothing_is_rank_local_unless_declared() -> None:
    problem = Problem()
    at = rows(N)
    inner, outer = torch.optim.SGD(problem.params, lr=0.1), torch.optim.SGD(problem.phi, lr=0.1)
    bilevel = BilevelProblem(
        lambda W, phi: (W[0] - phi[0] + dist.get_rank()).square().sum(),
        lambda W, phi: W[0].square().sum(),
        params=[torch.zeros(1, dtype=torch.float64)],
        aux_params=[torch.ones(1, dtype=torch.float64)],
    )

    def step() -> None:
        MetaOptimizer(outer).step(problem.train(at), problem.val(at), problem.params, problem.phi)

    def scores() -> None:
        losses = (problem.train(at), problem.val(at), torch.stack([problem.val(at), problem.train(at)]))
        usefulness([losses], params=problem.params)

    def gradients() -> None:
        Step(problem.model(X[at]).mean(0), tuple(problem.params), number=0, main=0, learning_rate=0.1).gradients()

    def trainer() -> None:
        whole = TrainingProblem(problem.model, lambda net, batch: net(batch[0]), data=(X,), labelled=torch.arange(8))
        Trainer(whole, training=Training(steps=40))

    actions: list[Callable[[], object]] = [
        trainer,
        lambda: problem.hypergradient(at, None),
        step,
        scores,
        gradients,
        lambda: unrolled(bilevel, steps=1, lr=0.1),
        lambda: check_hypergradient(bilevel, verbose=False),
        lambda: Standardized(Linear(2))(torch.ones(3, 2)),
    ]
    before = [p.detach().clone() for p in problem.phi]
    for action in actions:
        with pytest.raises(InputError, match="There are 2 ranks"):
            action()
    assert all(map(torch.equal, before, problem.phi))
    assert not inner.state
    with independent():
        for action in actions:
            action()
    with pytest.raises(InputError, match=r"group\.WORLD"):
        problem.hypergradient(at, None)
    for wrong in ("global", 2, dist):
        with pytest.raises(InputError, match="must be a process group"):
            problem.hypergradient(at, wrong)
    alone = [dist.new_group([r]) for r in range(2)]
    exact = problem.hypergradient(at, "local")
    assert error(problem.hypergradient(at, alone[dist.get_rank()]), exact) == 0.0
    with pytest.raises(InputError, match="not in it"):
        problem.hypergradient(at, alone[1 - dist.get_rank()])
    problem = Problem()  # the steps of their own have led the ranks apart
    with independent():  # a group that is given counts all the same
        found = problem.hypergradient(at, dist.group.WORLD, ConjugateGradient())
    assert error(found, problem.hypergradient(ALL, "local", ConjugateGradient())) < 1e-10


def on_two_ranks_a_rank_that_fails_stops_all() -> None:
    problem = Problem()
    at, second = rows(N), dist.get_rank() == 1
    settings = {"params": problem.params, "aux_params": problem.phi, "group": dist.group.WORLD}
    broken = math.nan if second else 1.0
    said = "must be finite" if second else "Another rank has failed"
    with pytest.raises(InputError, match=said):
        hypergradient(problem.train(at) * broken, problem.val(at), **settings)
    with pytest.raises(InputError, match=said):
        hypergradient(problem.train(at), (problem.val(at) * broken for _ in range(2)), **settings)
    with pytest.raises(InputError, match="cut from the graph" if second else "Another rank has failed"):
        hypergradient(problem.train(at).detach() if second else problem.train(at), problem.val(at), **settings)
    with pytest.raises(InputError, match="number, shapes or data types"):
        hypergradient(problem.train(at), problem.val(at), **{**settings, "params": problem.params[dist.get_rank() :]})
    with pytest.raises(InputError, match="None of its tensors"):
        hypergradient(problem.model(X[at]).square().mean(), problem.model(X[at]).mean(), **settings)
    with pytest.raises(InputError, match="depends on none"):
        hypergradient(problem.train(at), problem.phi[1] ** 2, **settings)
    twin = Problem(seed=dist.get_rank())
    with pytest.raises(InputError, match="must have the same weights"):
        twin.hypergradient(at, dist.group.WORLD)


def on_two_ranks_failed_solves_are_decided_alike() -> None:
    problem = Problem()
    at = rows(N)
    meta = MetaOptimizer(
        torch.optim.SGD(problem.phi, lr=0.1),
        solver=Neumann(terms=50, alpha=1e3),
        on_failure="skip",
        group=dist.group.WORLD,
    )
    before = [p.detach().clone() for p in problem.phi]
    meta.step(problem.train(at), problem.val(at), problem.params, problem.phi)
    assert meta.report is not None
    assert meta.report.failed
    assert all(map(torch.equal, before, problem.phi))
    settings = {"params": problem.params, "aux_params": problem.phi, "solver": meta.solver, "group": dist.group.WORLD}
    with pytest.raises(SolverError):
        hypergradient(problem.train(at), problem.val(at), **settings, on_failure="raise")
    with pytest.warns(SolverWarning):
        hypergradient(problem.train(at), problem.val(at), **settings)
    # An infinite derivative on one rank only: |w|^1.5 has no second one at 0.
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    own = w.abs().pow(1.5).sum() if dist.get_rank() == 1 else w.square().sum()
    found = hypergradient(
        own + (problem.phi[0] * w).sum(), (w - 1).square().sum(), params=[w], aux_params=problem.phi[:1],
        on_failure="skip", group=dist.group.WORLD,
    )  # fmt: skip
    assert not found.finite
    assert not found.usable


class Rounded(LinearSolver):
    """A solver on a machine that sums in another order, only worse."""

    def __init__(self, solver: LinearSolver) -> None:
        self.solver = solver

    def solve(self, H: CurvatureOperator, v: Vector, /) -> Solution:
        dot = _vectors._dot
        _vectors._dot = lambda a, b: dot(a, b) * (1 + 0.9 * dist.get_rank())  # type: ignore[assignment]
        try:
            return self.solver.solve(H, v)
        finally:
            _vectors._dot = dot


def on_two_ranks_rounding_of_one_rank_does_not_end_its_solve_earlier() -> None:
    problem = Problem()
    exact = problem.hypergradient(ALL, "local", ConjugateGradient(tolerance=1e-4))
    for solver in (ConjugateGradient(tolerance=1e-4), Neumann(terms=300, tolerance=0.5), WarmStart(Neumann())):
        found = problem.hypergradient(rows(N), dist.group.WORLD, Rounded(solver))
        assert all(map(same_on_all, found))
        if isinstance(solver, ConjugateGradient):
            assert error(found, exact) < 1e-10


def on_two_ranks_usefulness_is_that_of_the_full_batch() -> None:
    problem = Problem()

    def batches(parts: Iterable[slice]) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        for at in parts:
            each = (problem.model(X[at]) - Y[at]).square().mean(0)
            yield problem.train(at), problem.val(at), torch.cat([each, each.sum()[None]])

    mine = [slice(0, 4), slice(8, 12)] if dist.get_rank() == 0 else [slice(4, 8), slice(12, 16)]
    solve = partial(usefulness, params=problem.params, solver=ConjugateGradient(), damping=0.1)
    found = solve(batches(mine), group=dist.group.WORLD)
    exact = solve(batches([slice(0, 8), slice(8, 16)]), group="local")
    assert error([found.samples], [exact.samples]) < 1e-10
    assert same_on_all(found.score)
    with pytest.raises(InputError, match="same number of batches"):
        solve(batches(mine[dist.get_rank() :]), group=dist.group.WORLD)
    with pytest.raises(InputError, match="None of the 4 tensors"):
        solve([(problem.train(ALL), problem.phi[1] ** 2, torch.ones(1))], group=dist.group.WORLD)


def on_two_ranks_outer_steps_between_training_steps_equal_one_process() -> None:
    ranks, alone = Problem(), Problem()

    def run(problem: Problem, at: slice, group: object) -> None:
        meta = MetaOptimizer(
            torch.optim.Adam(problem.phi, lr=0.1), solver=Neumann(terms=5), max_grad_norm=1e-4, group=group
        )
        inner = torch.optim.SGD(problem.params, lr=0.05)
        for _ in range(4):
            inner.zero_grad()
            problem.train(at).backward()
            if group != "local":
                for p in problem.params:
                    dist.all_reduce(p.grad)
                    p.grad /= 2
            inner.step()
            grads = meta.step(problem.train(at), problem.val(at), problem.params, problem.phi, return_grads=True)
            assert grads is not None
            assert float(torch.cat([g.flatten() for g in grads]).norm()) > 1e-4  # so that clipping is in use

    run(ranks, rows(N), dist.group.WORLD)
    run(alone, ALL, "local")
    assert error(ranks.phi, alone.phi) < 1e-9
    assert error(ranks.params, alone.params) < 1e-10
    assert all(map(same_on_all, ranks.phi))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return outcomes(__file__, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", names(globals()))
def test_on_two_ranks(name: str, found: Outcomes) -> None:
    passed(found, name)


def test_one_process_needs_no_group() -> None:
    problem = Problem()
    exact = problem.hypergradient(ALL, None)
    assert error(problem.hypergradient(ALL, "local"), exact) == 0.0
    with independent(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert error(problem.hypergradient(ALL, None), exact) == 0.0
    assert share(torch.tensor(2.0), 3) == 2.0


def test_a_group_of_one_process_needs_no_word(tmp_path: Path) -> None:
    from support import process_group

    problem = Problem()
    exact = problem.hypergradient(ALL, None)
    with process_group(tmp_path / "store"):
        for group in (None, "local", dist.group.WORLD):
            assert error(problem.hypergradient(ALL, group), exact) == 0.0
