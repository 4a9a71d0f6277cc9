"""Print the relative error of every solver's hypergradient to the exact one, and how many products it took.

Ridge and logistic regression have 30 penalties, one a feature, and a known answer; the tanh network is compared with
2,000 unrolled steps from its minimum. All in float64, at the inner optimum.
"""

import copy

import torch
from problems import logistic, ridge, tanh_mlp
from torch import Tensor

from auxilearn import BilevelProblem, hypergradient, unrolled
from auxilearn.curvature import Hessian
from auxilearn.solvers import ConjugateGradient, Dense, Identity, LinearSolver, Neumann, Nystrom

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


def main() -> None:
    """Print one table a problem."""
    network = tanh_mlp()
    known_ridge, known_logistic = ridge(), logistic()
    cases = {
        "ridge, 30 penalties": (known_ridge.problem, known_ridge.exact),
        "logistic, 30 penalties": (known_logistic.problem, known_logistic.exact),
        "tanh network, 4 decays, against 2,000 unrolled steps": (network, truth_of_the_network(network)),
    }
    for name, (problem, exact) in cases.items():
        print(f"\n{name}\n{'solver':<34}{'error':>10}{'cosine':>10}{'products':>10}")
        for label, solver in SOLVERS.items():
            # A copy, for a solver remembers: each problem is met cold.
            found, products = solved(problem, copy.deepcopy(solver))
            error = float((found - exact).norm() / exact.norm())
            cosine = float(torch.cosine_similarity(found.flatten(), exact.flatten(), dim=0))
            print(f"{label:<34}{error:>10.1e}{cosine:>10.4f}{products:>10}")


if __name__ == "__main__":
    main()
