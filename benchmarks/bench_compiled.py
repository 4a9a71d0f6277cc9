"""How long a compiled product takes against one on a retained eager graph, and how long compiling took.

Both networks of `bench_overhead.py`, compiled by `torch.compile` with an empty cache. It needs a C++ compiler; run it
on an idle machine.
"""

import os
import statistics
import tempfile
import time

import script
import torch
from bench_overhead import TASKS, conv_net, mlp
from benchmark import Ratio, Table
from timing import paired_ratio
from torch import Tensor
from torch.nn.functional import cross_entropy

from auxilearn.curvature import CompiledHessian, Hessian, LossCurvature

READING = """A product of the eager operator comes from its retained graph, which is a strong peer: what a product needs
is computed once there, too. Compiling pays where the same losses are differentiated many times, and for the gradient of
a larger batch before all. Small networks that train for minutes are better left eager."""


def row(name: str, net: torch.nn.Module, x: Tensor, pairs: int) -> tuple[str | float, ...]:
    """Measure one network on one batch."""
    phi = torch.ones(TASKS, requires_grad=True, device=x.device)
    y = torch.randint(TASKS, (len(x), TASKS), device=x.device)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        logits = net(x)
        return torch.stack([cross_entropy(logits, y[:, k]) for k in range(TASKS)]) @ phi

    factory = CompiledHessian(loss, [net])
    start = time.perf_counter()
    H: LossCurvature = factory(x, y)
    seconds = time.perf_counter() - start
    eager = Hessian(loss(x, y), net.parameters())
    v = eager.gradient()
    product, floor = paired_ratio(lambda: H @ v, lambda: eager @ v, pairs=pairs)
    mixed, _ = paired_ratio(lambda: H.cross(v, [phi]), lambda: eager.cross(v, [phi]), pairs=pairs)
    built, _ = paired_ratio(lambda: factory(x, y), lambda: Hessian(loss(x, y), net.parameters()), pairs=pairs)
    saved = floor / 1e3 * (1 - product)
    pays = seconds / saved if saved > 0 else "never"
    return name, len(x), seconds, floor, product, mixed, built, pays


def measure(quick: bool, device: str) -> list[Table]:
    """Return a row a network and batch."""
    torch.manual_seed(0)
    cases = (("MLP", mlp, 64), ("conv net", conv_net, 64), ("conv net", conv_net, 256))[: 2 if quick else 3]
    # What was compiled before must not be read from the cache.
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        rows: list[tuple[str | float, ...]] = []
        for name, make, batch in cases:
            with torch.device(device):
                net, x = make(batch)
            rows.append(row(name, net, x, pairs=11 if quick else 31))
    columns = {"network": "", "batch": ".0f", "compiling, s": ".1f", "eager product, ms": ".2f"}
    columns |= {"product": ".2f", "mixed": ".2f", "gradient": ".2f", "pays after products": ",.0f"}
    floor = "the eager `Hessian`"
    product = statistics.median(float(r[4] or 0) for r in rows)
    ratio = Ratio("a compiled product, median of the rows", product, floor, goal=0.5)
    return [Table("Time with `CompiledHessian`", floor, columns, tuple(rows), ratios=(ratio,))]


if __name__ == "__main__":
    script.run("compiled", measure, script.parser(__doc__, cuda=True).parse_args())
