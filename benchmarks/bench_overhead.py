"""The time of one hypergradient against that of the bare autograd calls that it needs.

The floor is ∂_W L_A, ∂_W L_T with its graph, J products and the mixed derivative, as plain calls of
`torch.autograd.grad` in the same process on the same graphs: no vector algebra, no checks, no report. The original
package's arithmetic, which has no checks either, is timed in the same way. ``auto`` takes one product more for its
power iteration and fewer where it meets negative curvature; its floor has as many as it took. The vector algebra costs
the same passes over the weights whatever the batch, so its share falls as the batch grows. Run it on an idle machine.
"""

import statistics
from collections.abc import Callable

import script
import torch
from benchmark import Ratio, Table
from timing import paired_ratio
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from auxilearn import Hypergradient, hypergradient
from auxilearn.solvers import Neumann

READING = """What is added to the products are passes over the weights: two a term, a handful around the series, and
with `auto` two inner products a term, which guard its step. They cost the same whatever the batch, so that their share
falls as products grow; it is largest where the network is small and the batch, too. The original's arithmetic has the
same floor and neither checks, nor guard, nor report."""

TASKS, GOAL = 10, 1.05


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


def measure(quick: bool, device: str) -> list[Table]:
    """Return a row a network, batch and number of terms."""
    torch.manual_seed(0)
    cases = [(n, m, b, t) for n, m, b in (("MLP", mlp, 64), ("MLP", mlp, 256), ("MLP", mlp, 1024)) for t in (3, 20)]
    cases += [("conv net", conv_net, 64, t) for t in (3, 20)]
    if quick:
        cases = [case for case in cases if case[-1] == 3 or case[2] == 256]
    pairs = 15 if quick else 31
    rows: list[tuple[str, int, int, float, float, float, float]] = []
    for name, make, batch, terms in cases:
        with torch.device(device):
            net, x = make(batch)
            f = calls(net, x, terms, alpha=1e-3)
        original, floor = paired_ratio(f["original"], f["floor"], pairs=pairs)
        fixed, _ = paired_ratio(f["fixed"], f["floor"], pairs=pairs)
        auto, _ = paired_ratio(f["auto"], f["floor of auto"], pairs=pairs)
        rows.append((name, batch, terms, floor, original, fixed, auto))
    columns = {"network": "", "batch": ".0f", "terms": ".0f", "floor, ms": ".2f"}
    columns |= {"original": ".3f", "fixed α": ".3f", "auto α": ".3f"}
    floor = "the bare autograd calls"
    ratios = [
        Ratio(f"a hypergradient, {name}, {how.__name__} of the rows", how(row[k] for row in rows), floor, goal)
        for name, k, goal in (("fixed α", 5, GOAL), ("auto α", 6, GOAL), ("the original's arithmetic", 4, None))
        for how in (statistics.median, max)
    ]
    met = [sum(row[k] <= GOAL for row in rows) for k in (5, 6)]
    note = f"The aim of {GOAL} is met in {met[0]} of {len(rows)} rows with a fixed α, in {met[1]} with `auto`."
    return [Table("Time of one hypergradient", floor, columns, tuple(rows), (note,), tuple(ratios[:4] + ratios[4:5]))]


if __name__ == "__main__":
    script.run("overhead", measure, script.parser(__doc__, cuda=True).parse_args())
