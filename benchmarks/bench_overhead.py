"""Print the cost of one hypergradient against the bare autograd calls that it needs.

The floor is ∂_W L_A, ∂_W L_T with its graph, J products and the mixed derivative, as plain calls of
`torch.autograd.grad` in the same process on the same graphs: no vector algebra, no checks, no report. The original
package's arithmetic, which has no checks either, is timed in the same way. ``auto`` takes one product more for its
power iteration and fewer where it meets negative curvature; its floor has as many as it took. The vector algebra costs
about six passes over the weights a term whatever the batch, so its share falls as the batch grows.

Run it on an idle machine.
"""

from collections.abc import Callable

import torch
from timing import paired_ratio
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from auxilearn import Hypergradient, hypergradient
from auxilearn.solvers import Neumann

TASKS = 10


def mlp(batch: int) -> tuple[nn.Module, Tensor]:
    """A network of 235,000 weights for flattened images of 28 × 28."""
    net = nn.Sequential(nn.Linear(784, 256), nn.SiLU(), nn.Linear(256, 128), nn.SiLU(), nn.Linear(128, TASKS))
    return net, torch.randn(batch, 784)


def conv_net(batch: int) -> tuple[nn.Module, Tensor]:
    """A convolutional network of 25,000 weights for images of 28 × 28."""
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2),
        nn.SiLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(32 * 36, 16),
        nn.SiLU(),
        nn.Linear(16, TASKS),
    )
    return net, torch.randn(batch, 1, 28, 28)


def calls(net: nn.Module, x: Tensor, terms: int, alpha: float) -> dict[str, Callable[[], object]]:
    """Make the functions to be timed; all of them use the same two graphs."""
    params, phi = tuple(net.parameters()), torch.ones(TASKS, requires_grad=True)
    labels = torch.randint(TASKS, (len(x), TASKS))
    logits = net(x)
    losses = torch.stack([cross_entropy(logits, labels[:, k]) for k in range(TASKS)])
    train_loss, val_loss = losses @ phi, losses[0]
    grad = torch.autograd.grad

    def bare(products: int) -> None:
        v = grad(val_loss, params, retain_graph=True)
        g = grad(train_loss, params, create_graph=True)
        for _ in range(products):
            grad(g, params, v, retain_graph=True)
        grad(g, phi, v, retain_graph=True)

    def original() -> None:
        p = v = grad(val_loss, params, retain_graph=True)
        g = grad(train_loss, params, create_graph=True)
        for _ in range(terms):
            h = [a * alpha for a in grad(g, params, v, retain_graph=True)]
            v = [a - b for a, b in zip(v, h, strict=True)]
            p = [a + b for a, b in zip(p, v, strict=True)]
        grad(g, phi, p, retain_graph=True)

    def ours(solver: Neumann) -> Hypergradient:
        return hypergradient(train_loss, val_loss, params=params, aux_params=[phi], solver=solver)

    fixed, auto = Neumann(terms=terms, alpha=alpha), Neumann(terms=terms)
    ours(auto)  # the first call of the power iteration takes longer
    used = ours(auto).report.products
    return {
        "floor": lambda: bare(terms),
        "original": original,
        "fixed": lambda: ours(fixed),
        "auto": lambda: ours(auto),
        "floor of auto": lambda: bare(used),
    }


def main() -> None:
    """Print one row a network and number of terms."""
    torch.manual_seed(0)
    print("The last three columns are ratios to the floor.")
    print(f"{'network':<10}{'batch':>6}{'terms':>6}{'floor, ms':>12}{'original':>10}{'fixed α':>10}{'auto α':>10}")
    for name, make, batch in (("MLP", mlp, 64), ("MLP", mlp, 256), ("MLP", mlp, 1024), ("conv net", conv_net, 64)):
        net, x = make(batch)
        for terms in (3, 20):
            f = calls(net, x, terms, alpha=1e-3)
            original, floor = paired_ratio(f["original"], f["floor"])
            fixed, _ = paired_ratio(f["fixed"], f["floor"])
            auto, _ = paired_ratio(f["auto"], f["floor of auto"])
            print(f"{name:<10}{batch:>6}{terms:>6}{floor:>12.2f}{original:>10.3f}{fixed:>10.3f}{auto:>10.3f}")


if __name__ == "__main__":
    main()
