"""Shards to whole tensors and back, differentiable any number of times, in one message a direction.

DTensor's own conversions cut the derivative from the graph in some releases of torch, and send each weight by itself.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd import Function

from auxilearn._checks import explain
from auxilearn.errors import InputError


def gathered(shards: Sequence[Tensor], /) -> tuple[Tensor, ...]:
    """Gather DTensors of one mesh, all of which require a gradient or none of which does.

    What is differentiated by the result is this rank's part of a mean: its derivative by the shards is the mean over
    the ranks.

    Args:
        shards: The DTensors.

    Returns:
        The whole tensors, on every rank.

    Raises:
        InputError: If they are laid out in a way that is not known.
    """
    layouts = [_Layout(t) for t in shards]
    return cast("tuple[Tensor, ...]", cast("Any", _Gather).apply(layouts, *shards))


class _Layout:
    # How a tensor is cut: along which of its dimensions, for each dimension of the mesh, outermost first.
    def __init__(self, shard: Tensor) -> None:
        dtensor = cast("Any", shard)
        self.mesh, self.placements = dtensor.device_mesh, dtensor.placements
        self.shape, self.stride = dtensor.shape, dtensor.stride()
        self.cuts = [_cut(p) for p in self.placements]
        where = self.mesh.get_coordinate()
        self.shapes = [list(self.shape)]  # whole; after the first cut; … ; the shard
        for i, d in enumerate(self.cuts):
            shape = list(self.shapes[-1])
            if d is not None:
                shape[d] = self.sizes(i)[where[i]]
            self.shapes.append(shape)

    def sizes(self, i: int) -> list[int]:
        # Of the pieces that the ranks along a mesh dimension have; the last ones may be empty.
        length, ranks = self.shapes[i][cast("int", self.cuts[i])], self.mesh.size(i)
        piece = -(-length // ranks)
        return [max(0, min(piece, length - r * piece)) for r in range(ranks)]

    def padded(self, i: int) -> list[int]:
        shape = list(self.shapes[i])
        shape[cast("int", self.cuts[i])] = self.sizes(i)[0]
        return shape

    def wrapped(self, local: Tensor) -> Tensor:
        from torch.distributed.tensor import DTensor

        from_local = cast("Any", DTensor.from_local)
        shape, stride = self.shape, self.stride
        return cast(
            "Tensor", from_local(local, self.mesh, self.placements, run_check=False, shape=shape, stride=stride)
        )


def _cut(placement: Any) -> int | None:
    from torch.distributed.tensor import Replicate, Shard

    if isinstance(placement, Replicate):
        return None
    if type(placement) is not Shard:
        rule = "`Unsharded` takes weights that are sharded by `Shard` or `Replicate`."
        cure = "Use `fully_shard` or tensor parallelism, not both at once."
        raise InputError(explain(rule, f"One is placed by `{placement!r}`.", cure))
    return cast("int", placement.dim)


# The names of torch before and after the release that renamed the two.
ALL_GATHER = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"
REDUCE_SCATTER = "reduce_scatter_single" if hasattr(dist, "reduce_scatter_single") else "reduce_scatter_tensor"


# torch's stubs leave the decorators and the context of an autograd function untyped.
class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, layouts: list[_Layout], *shards: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.layouts = layouts
        ctx.set_materialize_grads(False)
        found = [cast("Any", t).to_local() for t in shards]
        for i in reversed(range(layouts[0].mesh.ndim)):
            found = _all_gather(found, layouts, i)
        return tuple(t.clone() if t is s else t for t, s in zip(found, shards, strict=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, *_where_given(_ScatterMean, ctx.layouts, grads)


class _ScatterMean(Function):
    @staticmethod
    def forward(ctx: Any, layouts: list[_Layout], *wholes: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.layouts = layouts
        ctx.set_materialize_grads(False)
        found = list(wholes)
        for i in range(layouts[0].mesh.ndim):
            found = _reduce_scatter(found, layouts, i)
        return tuple(layout.wrapped(t) for t, layout in zip(found, layouts, strict=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, *_where_given(_Gather, ctx.layouts, grads)


def _where_given(function: Any, layouts: list[_Layout], grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    # What a loss does not depend on does not travel.
    at = [i for i, g in enumerate(grads) if g is not None]
    results: list[Tensor | None] = [None] * len(grads)
    if at:
        for i, found in zip(at, function.apply([layouts[i] for i in at], *(grads[i] for i in at)), strict=True):
            results[i] = found
    return results


def _all_gather(found: list[Tensor], layouts: list[_Layout], i: int) -> list[Tensor]:
    rows = [k for k, layout in enumerate(layouts) if layout.cuts[i] is not None]
    if not rows:
        return found
    mesh, found = layouts[0].mesh, list(found)
    mine = torch.cat([_filled_up(found[k], layouts[k], i).reshape(-1) for k in rows])
    ranks = mesh.size(i)
    flat = mine.new_empty(ranks * len(mine))
    getattr(dist, ALL_GATHER)(flat, mine, group=mesh.get_group(i))
    parts = flat.view(ranks, -1)
    start = 0
    for k in rows:
        layout = layouts[k]
        d, padded = cast("int", layout.cuts[i]), layout.padded(i)
        end = start + torch.Size(padded).numel()
        pieces = [parts[r, start:end].view(padded).narrow(d, 0, size) for r, size in enumerate(layout.sizes(i))]
        found[k] = torch.cat(pieces, dim=d)
        start = end
    return found


def _reduce_scatter(found: list[Tensor], layouts: list[_Layout], i: int) -> list[Tensor]:
    mesh, found = layouts[0].mesh, list(found)
    group, ranks, here = mesh.get_group(i), mesh.size(i), mesh.get_coordinate()[i]
    rows = [k for k, layout in enumerate(layouts) if layout.cuts[i] is not None]
    copies = [k for k, layout in enumerate(layouts) if layout.cuts[i] is None]
    if copies:
        flat = torch.cat([found[k].reshape(-1) for k in copies])
        dist.all_reduce(flat, group=group)
        for k, piece in zip(copies, torch.split(flat / ranks, [found[k].numel() for k in copies]), strict=True):
            found[k] = piece.view(found[k].shape)
    if rows:
        columns: list[list[Tensor]] = [[] for _ in range(ranks)]
        for k in rows:
            pieces = torch.split(found[k], layouts[k].sizes(i), dim=cast("int", layouts[k].cuts[i]))
            for column, piece in zip(columns, pieces, strict=True):
                column.append(_filled_up(piece, layouts[k], i).reshape(-1))
        flat = torch.cat([t for column in columns for t in column])
        mine = flat.new_empty(len(flat) // ranks)
        getattr(dist, REDUCE_SCATTER)(mine, flat, group=group)
        mine /= ranks
        start = 0
        for k in rows:
            d, padded = cast("int", layouts[k].cuts[i]), layouts[k].padded(i)
            end = start + torch.Size(padded).numel()
            found[k] = mine[start:end].view(padded).narrow(d, 0, layouts[k].sizes(i)[here]).contiguous()
            start = end
    return found


def _filled_up(piece: Tensor, layout: _Layout, i: int) -> Tensor:
    # All ranks must send as much as the first.
    padded = layout.padded(i)
    if list(piece.shape) == padded:
        return piece
    full = piece.new_zeros(padded)
    full.narrow(cast("int", layout.cuts[i]), 0, piece.shape[cast("int", layout.cuts[i])]).copy_(piece)
    return full
