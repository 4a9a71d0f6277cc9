"""The ranks that share one problem: what they average, and what they decide together."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast, final

import torch
from torch import Tensor
from torch import distributed as dist

from auxilearn import _ranks
from auxilearn._autograd import refuse_freed
from auxilearn._checks import explain
from auxilearn._vectors import Vector, agreeing, is_distributed
from auxilearn.errors import InputError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Group: TypeAlias = 'ProcessGroup | Literal["local"] | None'
"""The ranks whose mean loss is meant; ``"local"``: each rank has a problem of its own; None: nobody has said."""

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Ranks:
    """Ranks of one data-parallel problem, whose loss is the mean of theirs.

    Plain tensors are averaged over them; a ``DTensor`` takes care of itself.

    Attributes:
        group: The process group.
        device: Where messages are made.
    """

    group: Any
    device: torch.device

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return dist.get_world_size(self.group)

    def mean(
        self, values: Sequence[Tensor | None], like: Sequence[Tensor], flags: Sequence[bool] = ()
    ) -> tuple[tuple[Tensor, ...], list[bool]]:
        """Average tensors over the ranks in one message.

        Args:
            values: This rank's tensors; None is zero. Half precision is summed in float32.
            like: Tensors of the same shapes.
            flags: Travel in the same message.

        Returns:
            The means, and for each flag whether it is set on any rank.
        """
        found = [torch.zeros_like(t) if v is None else v for v, t in zip(values, like, strict=True)]
        rows: dict[torch.dtype, list[int]] = {}
        for i, t in enumerate(found):
            if not is_distributed(t):
                rows.setdefault(t.dtype if t.dtype.itemsize >= 4 else torch.float32, []).append(i)
        raised: list[bool] = []
        for dtype, members in (rows or {torch.float32: []}).items():
            bits = [] if raised else [torch.tensor(list(map(float, flags)), dtype=dtype, device=self.device)]
            flat = torch.cat([*(found[i].reshape(-1).to(dtype) for i in members), *bits])
            dist.all_reduce(flat, group=self.group)
            flat /= self.size
            sizes = [found[i].numel() for i in members]
            pieces = torch.split(flat, [*sizes, len(flat) - sum(sizes)])
            for i, piece in zip(members, pieces, strict=False):
                found[i] = piece.view(found[i].shape).to(found[i].dtype)
            if flags and not raised:
                raised = [bit > 0 for bit in cast("list[float]", pieces[-1].tolist())]
        return tuple(found), raised

    def agree(self, numbers: Tensor, /) -> Tensor:
        """Take the numbers of the first rank.

        Args:
            numbers: This rank's, the same up to rounding.

        Returns:
            Theirs.
        """
        numbers = numbers.clone()
        dist.broadcast(numbers, src=dist.get_global_rank(self.group, 0), group=self.group)
        return numbers

    def together(
        self,
        work: Callable[[], T],
        replicated: Sequence[Tensor] = (),
        shapes: Sequence[Tensor] = (),
        *,
        passes: int = 1,
    ) -> T:
        """Do something that may fail on some ranks, and fail on all ranks if it does.

        Args:
            work: What to do, without talking to other ranks.
            replicated: Tensors that must be the same on all ranks.
            shapes: Tensors whose shapes must be.
            passes: A number of passes that must be the same on all ranks.

        Returns:
            What it returned.

        Raises:
            InputError: If it failed on another rank, or the ranks' tensors do not fit together.
            Exception: What this rank's work raised.
        """
        try:
            result = work()
        except Exception:
            self._greet(True, 0.0, 0.0)
            raise
        text = repr([passes, *((tuple(t.shape), t.dtype, is_distributed(t)) for t in (*replicated, *shapes))])
        # A float64 holds whole numbers of up to 53 bits.
        fingerprint = float(int(hashlib.sha256(text.encode()).hexdigest()[:13], 16))
        plain = [t.detach() for t in replicated if not is_distributed(t)]
        refuse_freed(plain)
        with agreeing(None):
            size = float(Vector(plain).norm()) if plain else 0.0
        worst, same, low, high = self._greet(False, fingerprint, size)
        if worst:
            rule, finding = "All ranks must be ready for the outer step.", "Another rank has failed before it."
            raise InputError(explain(rule, finding, "Its message says why; nothing was changed."))
        if not same:
            if not (replicated or shapes):
                rule = "Ranks that share shards must stream as many batches each, for every pass sends messages."
                finding = f"This rank has {passes}, another one has another number."
                cure = "Cut the ranks' data into the same number of batches, or use copies of the weights."
                raise InputError(explain(rule, finding, cure))
            rule, finding = "All ranks must have the same parameters.", "Their number, shapes or data types differ."
            raise InputError(explain(rule, finding, "Pass the same parameters in the same order on every rank."))
        precision = 1e-9 if plain and plain[0].dtype == torch.float64 else 1e-4
        if high - low > precision * max(abs(high), abs(low)):  # NaN is left to the losses
            rule = "Ranks that share a problem must have the same weights and auxiliary parameters."
            finding = f"The norm over all of them is {low:.9g} on one rank and {high:.9g} on another."
            cure = (
                "Build them under the same seed, or `broadcast` them once (`DistributedDataParallel` does); "
                'if each rank has a problem of its own, pass `group="local"`.'
            )
            raise InputError(explain(rule, finding, cure))
        return result

    def _greet(self, failed: bool, fingerprint: float, size: float) -> tuple[bool, bool, float, float]:
        mine = [float(failed), fingerprint, -fingerprint, size, -size]
        message = torch.tensor(mine, dtype=torch.float64, device=self.device)
        dist.all_reduce(message, op=dist.ReduceOp.MAX, group=self.group)
        worst, top, bottom, high, low = cast("list[float]", message.tolist())
        return worst > 0, top == -bottom, -low, high


def ranks_of(group: "Group", tensors: Iterable[Tensor], /) -> Ranks | None:
    """Say with which ranks a problem is shared.

    Args:
        group: What the caller said.
        tensors: All parameters of the problem.

    Returns:
        The ranks, or None if there is nobody to talk to.

    Raises:
        InputError: If nobody said how the ranks relate, or ``group`` is something else.
    """
    tensors = tuple(tensors)
    given = cast("Any", group)
    if given is None:
        if (size := _ranks.several()) > 1 and not all(map(is_distributed, tensors)):
            raise InputError(_undeclared(size))
        return None
    if isinstance(given, str) and given == "local":
        return None
    rule = '`group` must be a process group of this rank, or "local".'
    if not dist.is_available() or not isinstance(given, dist.ProcessGroup):
        if given is getattr(dist.GroupMember, "NON_GROUP_MEMBER", given) if dist.is_available() else False:
            raise InputError(explain(rule, "This rank is not in it.", "Call this on the group's ranks only."))
        raise InputError(explain(rule, f"It is {given!r:.60}.", "Pass `torch.distributed.group.WORLD`."))
    if dist.get_world_size(given) == 1:
        return None
    return Ranks(given, _local(tensors[0]).device)


def agreement(ranks: Ranks | None, /) -> AbstractContextManager[None]:
    """Make every inner product the same on all ranks.

    Args:
        ranks: The ranks; None changes nothing.

    Returns:
        The context.
    """
    return nullcontext() if ranks is None else agreeing(ranks.agree)


def _local(t: Tensor) -> Tensor:
    return cast("Any", t).to_local() if is_distributed(t) else t


def _undeclared(size: int) -> str:
    return explain(
        "Second derivatives see one rank's data only, and must be told how the ranks relate.",
        f"There are {size} ranks, and nobody has said.",
        "Pass `group=torch.distributed.group.WORLD` to average over the ranks' batches, "
        'or `group="local"` if each rank has a problem of its own.',
    )
