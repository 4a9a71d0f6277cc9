"""Whether memory stays flat over many outer steps, and whether streamed batches add up.

Each measurement runs in a process of its own and reads the peak that the operating system saw (``ru_maxrss``), less
that of the same process doing one outer step on one batch.
"""

import multiprocessing
import os
import resource
from collections.abc import Callable
from typing import TypeVar

import script
import torch
from benchmark import Ratio, Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from auxilearn.curvature import Hessian, Streamed
from auxilearn.optim import MetaOptimizer

READING = """An outer step over many batches needs the memory of one: with `Streamed`, the graph of a batch is freed
before that of the next is built. And nothing is kept from one step to the next: what a loop of training and outer steps
has reached after its first steps is what it needs."""

BATCH = 256

T = TypeVar("T")


def peak() -> float:
    """Return the largest resident size so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Setting:
    """A convolutional network with two losses and a weight for each."""

    def __init__(self, batches: int) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 5), nn.SiLU(), nn.Conv2d(16, 16, 5), nn.SiLU(), nn.Flatten(), nn.Linear(16 * 400, 10)
        )
        self.phi = nn.Parameter(torch.zeros(2))
        self.meta = MetaOptimizer(torch.optim.Adam([self.phi], lr=1e-3))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-4)
        self.x, self.y = torch.randn(batches, BATCH, 1, 28, 28), torch.randint(10, (batches, BATCH))

    def loss(self, batch: int) -> Tensor:
        """Return the weighted losses of one batch."""
        logits = self.net(self.x[batch])
        return torch.stack([cross_entropy(logits, self.y[batch]), logits.square().mean()]) @ self.phi.exp()

    def outer_step(self, batches: int) -> None:
        """Take one outer step on the mean over some batches, streamed."""
        params = list(self.net.parameters())
        H = Streamed(lambda b: Hessian(self.loss(b), params), range(batches))
        outer = (cross_entropy(self.net(self.x[b]), self.y[b]) for b in range(batches))
        self.meta.step(H, outer, params, [self.phi])

    def step_on_a_few_samples(self) -> None:
        """Take one training step and one outer step on eight samples, as a training loop does."""
        few = slice(0, 8)

        def train_loss() -> Tensor:
            logits = self.net(self.x[0, few])
            return torch.stack([cross_entropy(logits, self.y[0, few]), logits.square().mean()]) @ self.phi.exp()

        self.optimizer.zero_grad()
        train_loss().backward()
        self.optimizer.step()
        outer = cross_entropy(self.net(self.x[0, few]), self.y[0, few])
        self.meta.step(train_loss(), outer, self.net.parameters(), [self.phi])


def streamed(batches: int) -> float:
    """Return what one outer step over some batches adds to the resident size, in MiB."""
    setting = Setting(8)
    before = peak()
    setting.outer_step(batches)
    return peak() - before


def growth(steps: int, first: int) -> tuple[float, float]:
    """Return the peak of the first steps, and what ``steps`` further ones add to it, in MiB."""
    torch.set_num_threads(1)  # on batches of eight, two threads would only wait for each other
    setting = Setting(1)
    for _ in range(first):
        setting.step_on_a_few_samples()
    before = peak()
    for _ in range(steps):
        setting.step_on_a_few_samples()
    return before, peak() - before


def apart(function: Callable[..., T], *arguments: int) -> T:
    """Run a measurement in a fresh process, in which large blocks are given back to the system when they are freed."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def measure(quick: bool, device: str) -> list[Table]:
    """Return one table for streamed batches, and one for many steps."""
    columns = {"": "", "MiB": ".1f", "ratio": ".2f"}
    many, steps, first = (4, 50, 50) if quick else (8, 1000, 100)
    one, several = apart(streamed, 1), apart(streamed, many)
    floor = f"the same on 1 batch of {BATCH}"
    added = Table(
        "What an outer step adds to the peak of the resident size",
        floor,
        columns,
        (("1 batch", one, 1.0), (f"{many} batches, streamed", several, several / one)),
        ratios=(Ratio(f"memory of an outer step on {many} batches, streamed", several / one, floor),),
    )
    before, more = apart(growth, steps, first)
    floor = f"the first {first}"
    kept = Table(
        "The peak of the whole process over training and outer steps on eight samples",
        floor,
        columns,
        ((f"{first} steps", before, 1.0), (f"{steps:,} more", before + more, 1 + more / before)),
        ratios=(Ratio(f"memory after {steps:,} more steps", 1 + more / before, floor),),
    )
    return [added, kept]


if __name__ == "__main__":
    script.run("memory", measure, script.parser(__doc__).parse_args())
