"""What several ranks cost: the time of an outer step on one and on two processes.

The first table is *measured* here: gloo over the loop-back device, one thread a process, the same whole batch. Run it
on a quiet machine with two cores. The second, which `--computed` prints alone, is *computed* for many GPUs from a
bandwidth, a latency and a speed that you may change by options; it supposes that nothing overlaps.
"""

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta

import script
import torch
from benchmark import Ratio, Table
from torch import Tensor, multiprocessing, nn
from torch import distributed as dist

from auxilearn import hypergradient
from auxilearn.distributed import Unsharded
from auxilearn.solvers import Neumann

READING = """Two processes of one machine share its memory bandwidth: this is a check that nothing is silly, no
forecast. Half the batch a rank saves half the computing, and gloo takes it back while networks are small. What follows
for many GPUs is computed, with its assumptions, on [the page about several processes](scaling.md)."""

BATCH, TERMS = 256, 3
WIDTHS = (64, 256, 1024)
KINDS = ("alone", "copies", "shards")


@dataclass(frozen=True)
class Machine:
    """What the extrapolation supposes.

    Attributes:
        gpus: How many ranks.
        bandwidth: Of the links of a rank, one way, in bytes a second.
        latency: Of a hop between neighbours in a ring, in seconds.
        speed: Of a rank, in useful floating-point operations a second.
        tokens: What a rank trains on in an outer step; a gradient is 6 operations a parameter and token.
    """

    gpus: int
    bandwidth: float
    latency: float
    speed: float
    tokens: int


def network(width: int) -> nn.Module:
    """Build a network of about 3 · width² weights."""
    return nn.Sequential(
        nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
    )


def outer_step(net: nn.Module, params: list[Tensor], phi: Tensor, x: Tensor, terms: int, group: object) -> None:
    """Take a hypergradient of two losses' weights."""
    out = net(x)
    losses = torch.stack([(out - x).square().mean(), out.abs().mean()])
    hypergradient(
        losses @ phi.exp(),
        losses[0],
        params=params,
        aux_params=[phi],
        solver=Neumann(terms=terms, alpha=1e-3),
        group=group,
    )


def worker(rank: int, ranks: int, store: str, kind: str, width: int, terms: int, repeats: int, out: str) -> None:
    """Measure one case on one rank; the first one writes the seconds of the median outer step."""
    torch.set_num_threads(1)
    group = dist.FileStore(store, ranks)
    dist.init_process_group("gloo", store=group, rank=rank, world_size=ranks, timeout=timedelta(minutes=5))
    torch.manual_seed(0)
    model = network(width)
    plain = Unsharded(model)
    if kind == "shards":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(model, mesh=init_device_mesh("cpu", (ranks,)))
    params, phi = list(model.parameters()), torch.zeros(2, requires_grad=True)
    x = torch.randn(BATCH, width)[rank::ranks]
    seconds: list[float] = []
    for _ in range(repeats + 1):
        dist.barrier()
        start = time.perf_counter()
        if kind == "shards":
            with plain.of(model) as net:
                outer_step(net, params, phi, x, terms, dist.group.WORLD)
        else:
            outer_step(model, params, phi, x, terms, dist.group.WORLD)
        seconds.append(time.perf_counter() - start)
    if rank == 0:
        with open(out, "w") as file:
            file.write(str(statistics.median(seconds[1:])))
    os._exit(0)


def measured(ranks: int, kind: str, width: int, terms: int, repeats: int) -> float:
    """Return seconds per outer step."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/out"
        settings = (ranks, f"{folder}/store", kind, width, terms, repeats, out)
        multiprocessing.spawn(worker, settings, nprocs=ranks)
        with open(out) as file:
            return float(file.read())


def messages(kind: str, weights: float, terms: int, phi: int = 2) -> list[tuple[str, float]]:
    """List the large messages of an outer step with a fixed Neumann step: the kind, and the numbers in it.

    The same list, number by number, is asserted by the tests of ``auxilearn.distributed``.
    """
    if kind == "copies":
        return [("all-reduce", weights + phi)] + [("all-reduce", weights)] * terms + [("all-reduce", phi)]
    # The weights, a vector a product, the solution; ∂_W L_T, ∂_W L_A, a product.
    return [("all-gather", weights)] * (1 + terms + 1) + [("reduce-scatter", weights)] * (2 + terms)


def seconds_of(message: tuple[str, float], at: Machine, size: int = 4) -> float:
    """Say how long a message takes in a ring: an all-reduce goes round twice, the others once."""
    rounds = 2 if message[0] == "all-reduce" else 1
    return rounds * (at.gpus - 1) * (message[1] * size / at.gpus / at.bandwidth + at.latency)


def extrapolated(kind: str, weights: float, terms: int, at: Machine) -> tuple[float, float, float]:
    """Return the bytes that a rank sends, and the seconds of communication and of computation."""
    sent = messages(kind, weights, terms)
    volume = sum((2 if name == "all-reduce" else 1) * n * 4 * (at.gpus - 1) / at.gpus for name, n in sent)
    # ∂_W L_T with its graph and ∂_W L_A cost two gradients, a product and the mixed one 1.4 each.
    gradients = 2 + 1.4 * (terms + 1)
    return volume, sum(seconds_of(m, at) for m in sent), gradients * 6 * weights * at.tokens / at.speed


def measure(quick: bool, device: str) -> list[Table]:
    """Return a row a width."""
    rows: list[tuple[float, ...]] = []
    for width in WIDTHS[::2] if quick else WIDTHS:
        repeats = 5 if quick else 10
        alone, copies, shards = (1e3 * measured(1 if k == "alone" else 2, k, width, TERMS, repeats) for k in KINDS)
        weights = sum(p.numel() for p in network(width).parameters())
        rows.append((weights, alone, copies, shards, copies / alone, shards / alone))
    floor = "one process"
    columns = {"weights": ",.0f", "1 process, ms": ".2f", "2 processes, copies, ms": ".2f", "shards, ms": ".2f"}
    columns |= {"copies, ratio": ".2f", "shards, ratio": ".2f"}
    ratios = tuple(
        Ratio(f"an outer step on two processes, {kind}, {rows[-1][0]:,.0f} weights", rows[-1][k], floor)
        for kind, k in (("copies", 4), ("shards", 5))
    )
    title = f"Time of an outer step with {TERMS} terms on a whole batch of {BATCH}, one thread a process"
    return [Table(title, floor, columns, tuple(rows), ratios=ratios)]


def computed(weights: float, at: Machine) -> Table:
    """Return a row for copies and one for shards."""
    rows: list[tuple[str | float, ...]] = []
    for kind in KINDS[1:]:
        volume, sending, computing = extrapolated(kind, weights, TERMS, at)
        count, share = len(messages(kind, weights, TERMS)), sending / (sending + computing)
        rows.append((kind, volume / 1e9, count, sending, computing, share))
    columns = {"": "", "GB sent a rank": ".1f", "messages": ".0f", "sending, s": ".2f", "computing, s": ".2f"}
    title = f"COMPUTED, not measured: {at.gpus} GPUs, {weights:.3g} weights in float32, {TERMS} terms"
    supposed = (
        f"Supposing rings of {at.bandwidth:.3g} B/s and {at.latency:.3g} s a hop, {at.speed:.3g} operations/s,",
        f"{at.tokens} tokens a rank, and that nothing overlaps.",
    )
    return Table(title, "", columns | {"share sending": ".0%"}, tuple(rows), supposed)


def main() -> None:
    """Print both tables."""
    options = script.parser(__doc__)
    options.add_argument("--computed", action="store_true", help="print the second table only")
    options.add_argument("--gpus", type=int, default=64)
    options.add_argument("--weights", type=float, default=1e9)
    options.add_argument("--bandwidth", type=float, default=50e9, help="bytes a second, one way")
    options.add_argument("--latency", type=float, default=5e-6, help="seconds a hop")
    options.add_argument("--speed", type=float, default=200e12, help="useful operations a second")
    options.add_argument("--tokens", type=int, default=8192, help="of a rank, an outer step")
    given = options.parse_args()
    if not given.computed:
        script.run("scaling", measure, given)
    print(
        f"\n{computed(given.weights, Machine(given.gpus, given.bandwidth, given.latency, given.speed, given.tokens))}"
    )


if __name__ == "__main__":
    main()
