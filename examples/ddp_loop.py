"""Learn the weights of auxiliary losses on several ranks, with checkpoints, on the digits of scikit-learn.

The task is that of ``plain_loop.py``: 50 images with a class, of which 20 are held back, and 1,000 with labels of a
good and a random annotator and two attributes. Each rank has its part of every batch; the hypergradients, and so the
learned weights, are those of one process with the whole batch.

Run it (it needs the extra ``experiments``)::

    torchrun --standalone --nproc-per-node 2 examples/ddp_loop.py            # a copy of the network on each rank
    torchrun --standalone --nproc-per-node 2 examples/ddp_loop.py --shard    # shards, by fully_shard (FSDP2)

With ``--folder DIR`` it keeps a checkpoint, and goes on from one that is there, also on another number of ranks.
"""

import argparse
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from auxilearn.combiners import Linear, Standardized
from auxilearn.data import few_labels, sklearn_digits
from auxilearn.distributed import Unsharded, share
from auxilearn.optim import MetaOptimizer
from auxilearn.safety import second_order

LOSSES = ("main", "good annotator", "random annotator", "parity", "at least five")


class Course:
    """All that a checkpoint must hold, as ``torch.distributed.checkpoint`` asks for it."""

    def __init__(self, model: nn.Module, optimizer: Any, combiner: nn.Module, meta: MetaOptimizer) -> None:
        self.model, self.optimizer, self.combiner, self.meta, self.step = model, optimizer, combiner, meta, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state; it has the same keys before the first step, for loading fills them in."""
        from torch.distributed.checkpoint.state_dict import get_state_dict

        model, inner = get_state_dict(self.model, self.optimizer)
        combiner, outer = get_state_dict(self.combiner, self.meta.meta_optimizer)
        # What the solver remembers: the vector of its power iteration, sharded like the weights.
        found = self.meta.solver.state_dict().get("vector") or [torch.zeros_like(p) for p in self.model.parameters()]
        vector = {str(i): t for i, t in enumerate(found)}
        state = {"model": model, "inner": inner, "combiner": combiner, "outer": outer, "vector": vector}
        return {**state, "step": torch.tensor(self.step)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        from torch.distributed.checkpoint.state_dict import set_state_dict

        inner, outer = self.optimizer, self.meta.meta_optimizer
        set_state_dict(self.model, inner, model_state_dict=state["model"], optim_state_dict=state["inner"])
        set_state_dict(self.combiner, outer, model_state_dict=state["combiner"], optim_state_dict=state["outer"])
        self.meta.solver.load_state_dict({"vector": list(state["vector"].values())})
        self.step = int(state["step"])


def main(steps: int, *, shard: bool, folder: Path | None, save_every: int = 100) -> None:
    """Train; the first rank prints the weights and the accuracy."""
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)  # the same weights, labels and batches on all ranks
    images = sklearn_digits()
    split = few_labels(images.classes, seed=0, per_class=5, pool=1000)
    x, y = images.pixels.flatten(1), images.classes
    train, held_back, pool = split.main[:30], split.main[30:], split.pool
    wrong = torch.rand(len(pool)) < 0.1
    good = torch.where(wrong, (y[pool] + torch.randint(1, 10, (len(pool),))) % 10, y[pool])
    random = torch.randint(10, (len(pool),))
    parity, five = (y[pool] % 2).float(), (y[pool] >= 5).float()

    def losses(net: nn.Module, rows: Tensor) -> Tensor:
        """Compute the means over this rank's part, scaled so that the mean over ranks is that of the whole: (K,)."""
        mine, labelled = rows[rank::size], train[rank::size]
        out = net(x[torch.cat([labelled, pool[mine]])])
        main, out = out[: len(labelled)], out[len(labelled) :]
        means = torch.stack(
            [
                cross_entropy(main[:, :10], y[labelled]),
                cross_entropy(out[:, :10], good[mine]),
                cross_entropy(out[:, :10], random[mine]),
                binary_cross_entropy_with_logits(out[:, 10], parity[mine]),
                binary_cross_entropy_with_logits(out[:, 11], five[mine]),
            ]
        )
        return share(means, torch.tensor([len(labelled)] + [len(mine)] * (len(LOSSES) - 1)))

    def main_loss(net: nn.Module) -> Tensor:
        mine = held_back[rank::size]
        return share(cross_entropy(net(x[mine])[:, :10], y[mine]), len(mine))

    def batch(step: int) -> Tensor:
        """Draw the rows of the whole batch, the same on all ranks, also after a restart."""
        return torch.randint(len(pool), (64,), generator=torch.Generator().manual_seed(step))

    bare = nn.Sequential(nn.Linear(196, 64), nn.SiLU(), nn.Linear(64, 12))
    with torch.no_grad():  # the scale of the losses must be that of all ranks
        scale = losses(bare, batch(0))
        dist.all_reduce(scale)
    plain = Unsharded(bare)
    model: nn.Module = sharded(bare) if shard else nn.parallel.DistributedDataParallel(bare)
    combiner = Standardized(Linear(len(LOSSES)), scale=scale / size)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    meta = MetaOptimizer(torch.optim.Adam(combiner.parameters(), lr=0.1), group=dist.group.WORLD)
    course = Course(model, optimizer, combiner, meta)
    load(course, folder)

    while course.step < steps:
        rows = batch(course.step)
        optimizer.zero_grad()
        combiner(losses(model, rows)).backward()
        optimizer.step()
        if course.step % 10 == 9:
            # The second derivative of a sharded network is that of its twin.
            with second_order(model), plain.of(model) if shard else nullcontext(model) as net:
                train_loss, val_loss = combiner(losses(net, rows)), main_loss(net)
            meta.step(train_loss, val_loss, model.parameters(), combiner.parameters())
        course.step += 1
        if course.step % save_every == 0 or course.step == steps:
            save(course, folder)

    with torch.no_grad():
        accuracy = float((model(x[split.test])[:, :10].argmax(1) == y[split.test]).float().mean())
    if rank == 0:
        weights = dict(zip(LOSSES, map(float, combiner.combiner.weights), strict=True))
        print("\n".join(f"{name:<18}{weight:6.2f}" for name, weight in weights.items()))
        print(f"test accuracy {100 * accuracy:.1f} %")


def sharded(model: nn.Module) -> nn.Module:
    """Shard the weights over all ranks."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    return model


def save(course: Course, folder: Path | None) -> None:
    """Write the checkpoint beside the last one, and only then name it the last one."""
    if folder is not None:
        from torch.distributed import checkpoint

        checkpoint.save({"course": course}, checkpoint_id=folder / f"step-{course.step}")
        if dist.get_rank() == 0:
            (folder / "partial").write_text(f"step-{course.step}")
            (folder / "partial").replace(folder / "last")


def load(course: Course, folder: Path | None) -> None:
    """Go on from the last checkpoint, if there is one."""
    if folder is not None and (folder / "last").exists():
        from torch.distributed import checkpoint

        checkpoint.load({"course": course}, checkpoint_id=folder / (folder / "last").read_text())


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--steps", type=int, default=400)
    options.add_argument("--shard", action="store_true", help="shard the weights by fully_shard")
    options.add_argument("--folder", type=Path, help="where checkpoints go")
    given = options.parse_args()
    if "RANK" not in os.environ:
        raise SystemExit("Start it with torchrun: see the first lines of this file.")
    dist.init_process_group("gloo")
    try:
        main(given.steps, shard=given.shard, folder=given.folder)
    finally:
        dist.destroy_process_group()
