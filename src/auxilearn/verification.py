"""Is the hypergradient right? Three ways to compute it, compared on the user's own problem."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.optim import LBFGS

from auxilearn import _checks, _ranks
from auxilearn._autograd import filled, gradients
from auxilearn._vectors import Vector
from auxilearn.bilevel import BilevelProblem, Tensors
from auxilearn.curvature import Hessian
from auxilearn.implicit import hypergradient
from auxilearn.solvers import Dense, LinearSolver, Neumann, SolveReport
from auxilearn.unrolling import unrolled

__all__ = ["HypergradientCheck", "check_hypergradient"]

_DENSE_LIMIT = 2000


@final
@dataclass(frozen=True)
class HypergradientCheck:
    """The outcome of :func:`check_hypergradient`; ``print`` shows it as a table.

    Attributes:
        slopes: The slope of the outer loss along each tested direction of φ, by method: ``"retrained"`` (the truth),
            ``"exact implicit"`` (absent for large problems), ``"solver"`` and ``"unrolled"``.
        errors: The relative error of each method to the truth.
        stationarity: ‖∂_W L_T‖ after the inner training, relative to that at the start.
        report: What the solver said.
        passed: Whether the solver's result agrees with the truth.
        verdict: One sentence: whether it agrees, and if not, why and what to do.
    """

    slopes: dict[str, Tensor]
    errors: dict[str, float]
    stationarity: float
    report: SolveReport
    passed: bool
    verdict: str

    def __str__(self) -> str:
        lines = [f"{'method':<16} {'relative error':>14}   slopes along the first directions"]
        for name, values in self.slopes.items():
            shown = " ".join(f"{value: .5e}" for value in map(float, values[:4]))
            lines.append(f"{name:<16} {self.errors.get(name, 0.0):>14.2e}   {shown}")
        return "\n".join([*lines, f"inner gradient: {self.stationarity:.1e} of its start", self.verdict])


def check_hypergradient(
    problem: BilevelProblem,
    *,
    solver: LinearSolver | None = None,
    tolerance: float = 1e-2,
    unroll_steps: int = 200,
    directions: int = 5,
    seed: int = 0,
    verbose: bool = True,
) -> HypergradientCheck:
    r"""Compare a solver's hypergradient with the truth on a problem, and say what is wrong if they differ.

    The inner problem is trained to its minimum. There the hypergradient is computed with the solver, with the exact
    inverse (up to 2,000 weights), by unrolling, and from central differences
    :math:`[L_A(W^*(\varphi + hd)) - L_A(W^*(\varphi - hd))] / 2h` of the re-trained optimum. The last is the truth,
    for it supposes nothing. Use float64: the differences are noise otherwise.

    Args:
        problem: The problem; keep it small, it is trained many times.
        solver: The solver to be judged; by default ``Neumann()``, three terms, which is meant for training, not for
            accuracy.
        tolerance: The largest relative error that passes.
        unroll_steps: The steps of the unrolled comparison, with learning rate 1/λ_max.
        directions: How many directions of φ are tried: coordinates if there are no more, random ones otherwise.
        seed: The seed of random directions; the global random state is not touched.
        verbose: Whether to print the table and the verdict.

    Returns:
        Slopes, errors and the verdict.

    Raises:
        InputError: If a loss is not a finite scalar with a graph, a setting is out of range, or there are several
            ranks that were not declared independent.

    Example:
        >>> import torch
        >>> from auxilearn.bilevel import BilevelProblem
        >>> from auxilearn.solvers import ConjugateGradient
        >>> A = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
        >>> problem = BilevelProblem(
        ...     train_loss=lambda W, phi: W[0] @ A @ W[0] / 2 - phi[0] @ W[0],
        ...     val_loss=lambda W, phi: (W[0] - 1).square().sum(),
        ...     params=(torch.zeros(2, dtype=torch.float64),),
        ...     aux_params=(torch.ones(2, dtype=torch.float64),),
        ... )
        >>> check_hypergradient(problem, solver=ConjugateGradient(), verbose=False).verdict
        'The hypergradient is right.'
    """
    _ranks.refuse_undeclared("`check_hypergradient`", "Use it in one process, with all data.")
    _checks.positive("tolerance", tolerance)
    _checks.count("directions", directions, 1)
    solver = Neumann() if solver is None else solver
    aux = _fresh(problem.aux_params)
    start = _fresh(problem.params)
    optimum, stationarity = _trained(problem, start, aux)
    solved = hypergradient(
        problem.train_loss(optimum, aux),
        problem.val_loss(optimum, aux),
        params=optimum,
        aux_params=aux,
        solver=solver,
        on_failure="skip",
    )
    tried = _directions(aux, directions, seed)
    slopes = {"retrained": _retrained_slopes(problem, optimum, aux, tried), "solver": _slopes(solved.grads, tried)}
    if sum(p.numel() for p in optimum) <= _DENSE_LIMIT:
        losses = problem.train_loss(optimum, aux), problem.val_loss(optimum, aux)
        exact = hypergradient(*losses, params=optimum, aux_params=aux, solver=Dense())
        slopes["exact implicit"] = _slopes(exact.grads, tried)
        largest = exact.report.largest_eigenvalue
    else:
        largest = solved.report.largest_eigenvalue
    rolled = unrolled(
        BilevelProblem(problem.train_loss, problem.val_loss, optimum, aux),
        steps=unroll_steps,
        lr=1.0 / largest if largest else 1e-2,
    )
    slopes["unrolled"] = _slopes(rolled.grads, tried)
    errors = {name: _relative(values, slopes["retrained"]) for name, values in slopes.items()}
    passed, verdict = _verdict(errors, stationarity, solved.report, tolerance)
    check = HypergradientCheck(slopes, errors, stationarity, solved.report, passed, verdict)
    if verbose:
        print(check)
    return check


def _verdict(errors: dict[str, float], stationarity: float, report: SolveReport, tolerance: float) -> tuple[bool, str]:
    exact = errors.get("exact implicit", errors["unrolled"])
    if stationarity > 1e-4:
        return False, (
            "The inner problem was not solved: its gradient did not vanish, so the theorem does not apply. "
            "Is the train loss bounded below, smooth and deterministic?"
        )
    if exact > tolerance:
        return False, (
            "Even the exact inverse disagrees with re-training. "
            "Is the minimum degenerate (add weight decay), or does a loss depend on something that is neither W nor φ?"
        )
    if report.negative_curvature:
        return False, "The Hessian is not positive definite at the optimum. Add weight decay or damping."
    if errors["solver"] > tolerance:
        return False, (
            f"The problem is fine, the solver is not accurate enough (relative error {errors['solver']:.1e}). "
            "Give it more products, or use ConjugateGradient; for training, a rough direction is often enough."
        )
    return True, "The hypergradient is right."


def _trained(problem: BilevelProblem, start: Tensors, aux: Tensors) -> tuple[Tensors, float]:
    # L-BFGS, then Newton steps; what is returned besides the weights is the relative gradient that is left.
    params = _fresh(start)
    fixed = tuple(p.detach() for p in aux)

    def slope() -> tuple[Tensor, Vector]:
        loss = _checks.scalar_loss("train_loss", problem.train_loss(params, fixed))
        return loss, filled(gradients(loss, params), params)

    def closure() -> Tensor:
        loss, gradient = slope()
        for p, g in zip(params, gradient, strict=True):
            p.grad = g
        return loss.detach()

    before = float(slope()[1].norm())
    eps = torch.finfo(params[0].dtype).eps
    optimizer = LBFGS(
        params,
        max_iter=5000,
        max_eval=20000,
        tolerance_grad=eps,
        tolerance_change=eps**2,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(closure)
    for p in params:
        p.grad = None
    left = _polished(lambda: problem.train_loss(params, fixed), params, float(slope()[1].norm()))
    return params, left / max(before, 1.0)


def _polished(loss: Callable[[], Tensor], params: Tensors, left: float) -> float:
    # Newton steps as long as they shrink the gradient: L-BFGS stops where the loss no longer resolves its steps.
    if sum(p.numel() for p in params) > _DENSE_LIMIT:
        return left
    for _ in range(10):
        H = Hessian(loss(), params)
        if len(H.params) < len(params):
            return left
        step = Dense().solve(H, H.gradient()).x
        before = [p.detach().clone() for p in params]
        _move(params, step, -1.0)
        now = float(filled(gradients(loss(), params), params).norm())
        if not now < left:
            for p, b in zip(params, before, strict=True):
                p.data.copy_(b)
            return left
        left = now
    return left


def _retrained_slopes(problem: BilevelProblem, optimum: Tensors, aux: Tensors, tried: list[Vector]) -> Tensor:
    step = torch.finfo(aux[0].dtype).eps ** (1 / 3) * (1.0 + float(Vector(p.detach() for p in aux).norm()))
    rows: list[Tensor] = []
    for direction in tried:
        ends: list[Tensor] = []
        for sign in (1.0, -1.0):
            moved = _fresh(aux)
            _move(moved, direction, sign * step)
            params, _ = _trained(problem, optimum, moved)
            ends.append(problem.val_loss(params, moved).detach())
        rows.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(rows)


def _directions(aux: Tensors, count: int, seed: int) -> list[Vector]:
    size = sum(p.numel() for p in aux)
    template = Vector(p.detach() for p in aux)
    if size > count:
        generator = torch.Generator().manual_seed(seed)
        drawn = [template.randn_like(generator) for _ in range(count)]
        return [d / float(d.norm()) for d in drawn]
    eye = torch.eye(size, dtype=aux[0].dtype, device=aux[0].device)
    return [template.from_flat(row) for row in eye]


def _slopes(grads: Tensors, tried: list[Vector]) -> Tensor:
    return torch.stack([Vector(grads).dot(direction) for direction in tried]).detach()


def _relative(values: Tensor, truth: Tensor) -> float:
    return float(Vector([values - truth]).norm()) / max(float(Vector([truth]).norm()), torch.finfo(truth.dtype).tiny)


def _fresh(tensors: Tensors) -> Tensors:
    return tuple(t.detach().clone().requires_grad_() for t in tensors)


def _move(tensors: Tensors, direction: Vector, scale: float) -> None:
    for t, d in zip(tensors, direction, strict=True):
        t.data.add_(d, alpha=scale)
