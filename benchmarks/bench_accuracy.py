"""The relative error of every solver's hypergradient to the exact one, its cosine, and how many products it took.

Ridge and logistic regression have 30 penalties, one a feature, and a known answer; the tanh network is compared with
2,000 unrolled steps from its minimum. All in float64, at the inner optimum.
"""

import copy

import script
import torch
from benchmark import Ratio, Table
from problems import logistic, ridge, tanh_mlp
from torch import Tensor

from auxilearn import BilevelProblem, hypergradient, unrolled
from auxilearn.curvature import Hessian
from auxilearn.solvers import ConjugateGradient, Dense, Identity, LinearSolver, Neumann, Nystrom

READING = """Where the inner problem is solved, conjugate gradients are worth their products. Three Neumann terms, the
default for networks in training, give a direction, not a number; on the ridge problem, whose Hessian has the largest
condition number, not even that. A low-rank Nyström model needs the rest of the spectrum to be flat."""

SOLVERS: dict[str, LinearSolver] = {
    "Identity": Identity(),
    "Neumann(3), the default": Neumann(),
    "Neumann(20)": Neumann(terms=20),
    "Neumann(2000)": Neumann(terms=2000),
    "ConjugateGradient(20)": ConjugateGradient(max_steps=20),
    "ConjugateGradient(200), 1e-12": ConjugateGradient(max_steps=200, tolerance=1e-12),
    "Nystrom(10)": Nystrom(rank=10),
    "Nystrom(full rank)": Nystrom(rank=10_000),
    "Dense": Dense(),
    "original: 4 terms, alpha = 1e-4": Neumann(terms=3, alpha=1e-4, scaled=False),
}


def solved(problem: BilevelProblem, solver: LinearSolver) -> tuple[Tensor, int]:
    """Return the hypergradient and the number of products."""
    W = tuple(w.clone().requires_grad_() for w in problem.params)
    phi = tuple(p.clone().requires_grad_() for p in problem.aux_params)
    result = hypergradient(
        problem.train_loss(W, phi), problem.val_loss(W, phi), params=W, aux_params=phi, solver=solver
    )
    return result.grads[0], result.report.products


def truth_of_the_network(problem: BilevelProblem) -> Tensor:
    """Differentiate through 2,000 steps of gradient descent from the minimum."""
    W = tuple(w.clone().requires_grad_() for w in problem.params)
    H = Hessian(problem.train_loss(W, problem.aux_params), W)
    largest = Dense().solve(H, H.gradient() + H.gradient().randn_like(torch.Generator())).report.largest_eigenvalue
    return unrolled(problem, steps=2000, lr=1.9 / (largest or 1.0)).grads[0]


def measure(quick: bool, device: str) -> list[Table]:
    """Return one table a problem; a quick run has the same ones, for all is deterministic."""
    network = tanh_mlp()
    known_ridge, known_logistic = ridge(), logistic()
    cases = {
        "ridge, 30 penalties": (known_ridge.problem, known_ridge.exact, "its closed form"),
        "logistic, 30 penalties": (known_logistic.problem, known_logistic.exact, "the explicit Hessian"),
        "tanh network, 4 decays": (network, truth_of_the_network(network), "2,000 unrolled steps"),
    }
    tables: list[Table] = []
    for name, (problem, exact, truth) in cases.items():
        errors: dict[str, float] = {}
        rows: list[tuple[str | float, ...]] = []
        for label, solver in SOLVERS.items():
            # A copy, for a solver remembers: each problem is met cold.
            found, products = solved(problem, copy.deepcopy(solver))
            errors[label] = float((found - exact).norm() / exact.norm())
            cosine = float(torch.cosine_similarity(found.flatten(), exact.flatten(), dim=0))
            rows.append((label, errors[label], cosine, products))
        columns = {"solver": "", "error": ".1e", "cosine": ".4f", "products": ".0f"}
        best = "ConjugateGradient(200), 1e-12"
        ratio = Ratio(f"relative error of {best}, {name}", errors[best], truth)
        tables.append(Table(name, truth, columns, tuple(rows), ratios=(ratio,)))
    return tables


if __name__ == "__main__":
    script.run("accuracy", measure, script.parser(__doc__).parse_args())
