"""Bilevel problems whose exact hypergradient is known, on the breast-cancer table of scikit-learn (569 × 30)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor
from torch.nn.functional import softplus

from auxilearn import BilevelProblem

F64 = torch.float64


@dataclass(frozen=True)
class Table:
    """Standardised features and labels ±1, split into a training and an outer set."""

    x: Tensor
    y: Tensor
    outer_x: Tensor
    outer_y: Tensor


@dataclass(frozen=True)
class Known:
    """A problem at its inner optimum, with the exact hypergradient there."""

    problem: BilevelProblem
    exact: Tensor


def table(rows: int = 400) -> Table:
    """Read the table and split it at ``rows``."""
    data = load_breast_cancer()
    x = torch.tensor(data.data, dtype=F64)
    y = torch.tensor(data.target, dtype=F64) * 2 - 1
    x = (x - x.mean(0)) / x.std(0)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return Table(x[:rows], y[:rows], x[rows:], y[rows:])


def _log_penalties() -> Tensor:
    return torch.linspace(-6.0, -1.0, 30, dtype=F64)


def ridge() -> Known:
    """Ridge regression with a penalty exp(φ_j) for each of the 30 features; differentiated through its closed form."""
    d = table()

    def train(W: tuple[Tensor, ...], phi: tuple[Tensor, ...]) -> Tensor:
        return (d.x @ W[0] - d.y).square().mean() + (phi[0].exp() * W[0].square()).sum()

    def outer(W: tuple[Tensor, ...], phi: tuple[Tensor, ...]) -> Tensor:
        return (d.outer_x @ W[0] - d.outer_y).square().mean()

    phi = _log_penalties().requires_grad_()
    w = torch.linalg.solve(d.x.T @ d.x / len(d.x) + phi.exp().diag(), d.x.T @ d.y / len(d.x))
    (exact,) = torch.autograd.grad(outer((w,), (phi,)), phi)
    return Known(BilevelProblem(train, outer, (w.detach(),), (phi.detach(),)), exact)


def logistic() -> Known:
    """Logistic regression with a penalty exp(φ_j) for each feature; the formula with the explicit Hessian XᵀDX + 2Λ."""
    d = table()

    def train(W: tuple[Tensor, ...], phi: tuple[Tensor, ...]) -> Tensor:
        return softplus(-d.y * (d.x @ W[0])).mean() + (phi[0].exp() * W[0].square()).sum()

    def outer(W: tuple[Tensor, ...], phi: tuple[Tensor, ...]) -> Tensor:
        return softplus(-d.outer_y * (d.outer_x @ W[0])).mean()

    phi = _log_penalties()
    penalty = phi.exp()

    def hessian(w: Tensor) -> Tensor:
        p = torch.sigmoid(d.y * (d.x @ w))
        return d.x.T @ ((p * (1 - p))[:, None] * d.x) / len(d.x) + 2 * penalty.diag()

    w = torch.zeros(30, dtype=F64)
    for _ in range(30):
        slope = -d.x.T @ (d.y * torch.sigmoid(-d.y * (d.x @ w))) / len(d.x) + 2 * penalty * w
        w = w - torch.linalg.solve(hessian(w), slope)
    v = -d.outer_x.T @ (d.outer_y * torch.sigmoid(-d.outer_y * (d.outer_x @ w))) / len(d.outer_x)
    exact = -2 * penalty * w * torch.linalg.solve(hessian(w), v)
    return Known(BilevelProblem(train, outer, (w,), (phi,)), exact)


def tanh_mlp(hidden: int = 4) -> BilevelProblem:
    """A two-layer tanh network with a decay exp(φ) for each of its four tensors, at its minimum."""
    d = table()
    x, outer_x = d.x[:, :8], d.outer_x[:, :8]

    def predict(W: tuple[Tensor, ...], inputs: Tensor) -> Tensor:
        return torch.tanh(inputs @ W[0] + W[1]) @ W[2] + W[3]

    def train(W: tuple[Tensor, ...], phi: tuple[Tensor, ...]) -> Tensor:
        decay = sum((p.exp() * w.square().sum() for p, w in zip(phi[0], W, strict=True)), torch.zeros((), dtype=F64))
        return softplus(-d.y * predict(W, x)).mean() + decay

    def outer(W: tuple[Tensor, ...], phi: tuple[Tensor, ...]) -> Tensor:
        return softplus(-d.outer_y * predict(W, outer_x)).mean()

    g = torch.Generator().manual_seed(0)
    shapes = [(8, hidden), (hidden,), (hidden,), ()]
    start = tuple(torch.randn(s, generator=g, dtype=F64) / 2 for s in shapes)
    phi = (torch.full((4,), -4.5, dtype=F64),)
    return BilevelProblem(train, outer, minimised(lambda W: train(W, phi), start), phi)


def minimised(loss: Callable[[tuple[Tensor, ...]], Tensor], start: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Minimise by L-BFGS and polish by Newton steps with a dense Hessian."""
    shapes = [w.shape for w in start]

    def unflat(w: Tensor) -> tuple[Tensor, ...]:
        return tuple(p.reshape(s) for p, s in zip(w.split([s.numel() for s in shapes]), shapes, strict=True))

    flat = torch.cat([w.reshape(-1) for w in start]).requires_grad_()
    optimizer = torch.optim.LBFGS([flat], max_iter=3000, tolerance_grad=1e-14, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(unflat(flat))
        value.backward()
        return value

    optimizer.step(closure)
    w = flat.detach()
    for _ in range(5):
        slope = torch.autograd.functional.jacobian(lambda u: loss(unflat(u)), w)
        w = w - torch.linalg.solve(torch.autograd.functional.hessian(lambda u: loss(unflat(u)), w), slope)
    return unflat(w)
