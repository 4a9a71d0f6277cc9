"""Learn one penalty for each of 30 features of a logistic regression, which is solved to convergence in between.

Here curvature decides: the inner problem is convex and solved, so conjugate gradients give the exact hypergradient.
Data: the breast-cancer table of scikit-learn.

Run it: ``python examples/learned_penalties.py`` (it needs the extra ``experiments``)
"""

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor
from torch.nn.functional import softplus

from auxilearn.optim import MetaOptimizer
from auxilearn.solvers import ConjugateGradient, WarmStart


def main(outer_steps: int = 30) -> list[float]:
    """Learn the penalties, print the outer loss on the way, and return it."""
    data = load_breast_cancer()
    x = torch.tensor(data.data, dtype=torch.float64)
    y = torch.tensor(data.target, dtype=torch.float64) * 2 - 1
    x = (x - x.mean(0)) / x.std(0)
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, outer = rows[:100], rows[100:300]

    w = torch.zeros(30, dtype=torch.float64, requires_grad=True)
    log_penalty = torch.full((30,), -6.0, dtype=torch.float64, requires_grad=True)
    meta = MetaOptimizer(
        torch.optim.Adam([log_penalty], lr=0.3), solver=WarmStart(ConjugateGradient(max_steps=100, tolerance=1e-8))
    )

    def loss(part: Tensor) -> Tensor:
        return softplus(-y[part] * (x[part] @ w)).mean()

    def train_loss() -> Tensor:
        return loss(train) + (log_penalty.exp() * w.square()).sum()

    history: list[float] = []
    for step in range(outer_steps):
        inner = torch.optim.LBFGS([w], max_iter=100, line_search_fn="strong_wolfe")

        def closure(inner: torch.optim.Optimizer = inner) -> Tensor:
            inner.zero_grad()
            value = train_loss()
            value.backward()
            return value

        inner.step(closure)
        meta.step(train_loss(), loss(outer), [w], [log_penalty])
        history.append(loss(outer).item())
        assert meta.report is not None
        if step % 5 == 0 or step == outer_steps - 1:
            print(f"step {step:3d}   outer loss {history[-1]:.4f}   residual {meta.report.residual:.0e}")
    return history


if __name__ == "__main__":
    main()
