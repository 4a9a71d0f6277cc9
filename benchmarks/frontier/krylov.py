"""Every series that gradient steps could sum, from one pass: to find the step that is best in hindsight.

A series of J products is a polynomial in H of degree J, applied to v. Lanczos' basis V of J + 1 vectors, kept
orthogonal, gives it exactly, f(H) v = ‖v‖ V f(T) e₁ with a small matrix T; and the hypergradient is linear in it. So
thousands of pairs of a step and a length are judged for the price of one solve. What is reported is computed anew, by
real products.
"""

import torch
from state import State
from torch import Tensor

ALPHAS = 1000


class Krylov:
    """The hypergradients of all polynomials up to a degree."""

    def __init__(self, state: State, degree: int) -> None:
        size = state.v.norm()
        basis = [state.v / float(size)]
        rows = torch.zeros(degree + 1, len(basis[0].flat()), dtype=size.dtype)  # the same, for products with all
        T = torch.zeros(degree + 1, degree + 1, dtype=size.dtype)
        for k in range(degree + 1):
            rows[k] = basis[k].flat()
            w = (state.operator @ basis[k]).flat()
            T[k, k] = w @ rows[k]
            for _ in range(2):  # Gram and Schmidt twice is enough
                w = w - rows[: k + 1].T @ (rows[: k + 1] @ w)
            length = float(w.norm())
            if k == degree or length < 1e-12 * float(T.diagonal().max()):
                break
            T[k, k + 1] = T[k + 1, k] = length
            basis.append(state.v.from_flat(w / length))
        self.values, vectors = torch.linalg.eigh(T[: len(basis), : len(basis)])
        responses = torch.stack([state.hypergradient(b) for b in basis])  # (m, φ)
        self.parts = size * vectors[0][:, None] * (vectors.T @ responses)  # (m, φ): one row for each Ritz value
        self.exact = state.truth[0]

    def series(self, alpha: float, terms: int) -> Tensor:
        """Return the hypergradient of Σ_{j ≤ terms} (I − αH)ʲ v."""
        steps = alpha * self.values  # all positive, for H is
        return ((1 - (1 - steps) ** (terms + 1)) / steps) @ self.parts

    def best_alpha(self, terms: int) -> float:
        """Return the step whose series is nearest to the truth in direction, among 1,000 from 10⁻⁵ to 4 over λ_max."""
        largest = float(self.values[-1])
        alphas = (torch.logspace(-5, 0, ALPHAS, dtype=torch.float64) * 4 / largest).tolist()

        def score(alpha: float) -> float:
            found = float(torch.cosine_similarity(self.series(alpha, terms), self.exact, 0))
            return found if found == found else -1.0

        return max([*alphas, 1e-4], key=score)
