"""Print how long a compiled product takes against one on a retained eager graph, and how long compiling took.

Both networks of `bench_overhead.py`. It needs a C++ compiler. Run it on an idle machine, and first with an empty cache
(`TORCHINDUCTOR_CACHE_DIR`), for what was compiled before is read from there.
"""

import time

import torch
from bench_overhead import TASKS, conv_net, mlp
from timing import paired_ratio
from torch import Tensor
from torch.nn.functional import cross_entropy

from auxilearn.curvature import CompiledHessian, Hessian, LossCurvature


def main() -> None:
    """Print one row a network and batch."""
    torch.manual_seed(0)
    print(f"{'network':<10}{'batch':>6}{'compiling, s':>14}{'eager, ms':>11}{'product':>9}{'mixed':>7}{'gradient':>10}")
    for name, make, batch in (("MLP", mlp, 64), ("conv net", conv_net, 64), ("conv net", conv_net, 256)):
        net, x = make(batch)
        phi, y = torch.ones(TASKS, requires_grad=True), torch.randint(TASKS, (batch, TASKS))

        def loss(x: Tensor, y: Tensor, net: torch.nn.Module = net, phi: Tensor = phi) -> Tensor:
            logits = net(x)
            return torch.stack([cross_entropy(logits, y[:, k]) for k in range(TASKS)]) @ phi

        factory = CompiledHessian(loss, [net])
        start = time.perf_counter()
        H: LossCurvature = factory(x, y)
        seconds = time.perf_counter() - start
        eager = Hessian(loss(x, y), net.parameters())
        v = eager.gradient()
        product, floor = paired_ratio(lambda: H @ v, lambda: eager @ v)  # noqa: B023 - called at once
        mixed, _ = paired_ratio(lambda: H.cross(v, [phi]), lambda: eager.cross(v, [phi]))  # noqa: B023
        built, _ = paired_ratio(lambda: factory(x, y), lambda: Hessian(loss(x, y), net.parameters()))  # noqa: B023
        print(f"{name:<10}{batch:>6}{seconds:>14.1f}{floor:>11.2f}{product:>9.2f}{mixed:>7.2f}{built:>10.2f}")


if __name__ == "__main__":
    main()
