"""Vector algebra on tuples of tensors, so that solvers read like the textbook."""

# The fused element-wise kernels `torch._foreach_*` have no public name; torch.optim uses them in the same way.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate
from typing import Any, cast, final

import torch
from torch import Tensor

Agree = Callable[[Tensor], Tensor]
_AGREE: ContextVar[Agree | None] = ContextVar("how ranks agree on a number", default=None)


@contextmanager
def agreeing(agree: Agree | None, /) -> Generator[None, None, None]:
    """Pass every inner product through a function that makes it the same on all ranks.

    Equal vectors need not have equal inner products on two machines, or with two numbers of threads; and a solver that
    ended on one rank only would leave the others waiting for its next product.

    Args:
        agree: Takes the numbers of this rank and returns those of all; None changes nothing.

    Yields:
        Nothing.
    """
    token = _AGREE.set(agree)
    try:
        yield
    finally:
        _AGREE.reset(token)


def shared_by_ranks() -> bool:
    """Say whether vectors are those of several ranks, which must take the same steps.

    Returns:
        Whether this is inside :func:`agreeing`.
    """
    return _AGREE.get() is not None


@final
class Vector:
    r"""An element of parameter space: a tuple of tensors with the operations of a vector space.

    The tensors are never concatenated, for that would copy them and would gather sharded ones (``DTensor``), which may
    stand beside plain ones.
    Every operation returns a new vector and changes none, but for :meth:`add_`.

    Args:
        tensors: The blocks, e.g. one for each parameter of a network, any shapes.

    Example:
        >>> import torch
        >>> v = Vector([torch.tensor([1.0, 2.0]), torch.tensor([[2.0]])])
        >>> float(v.norm())
        3.0
        >>> float((2 * v - v).dot(v))
        9.0
    """

    __slots__ = ("tensors",)

    def __init__(self, tensors: Iterable[Tensor], /) -> None:
        self.tensors: tuple[Tensor, ...] = tuple(tensors)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __repr__(self) -> str:
        return f"Vector({', '.join(str(tuple(t.shape)) for t in self.tensors)})"

    def __add__(self, other: "Vector", /) -> "Vector":
        return Vector(_each(torch._foreach_add, self.tensors, other.tensors))

    def __sub__(self, other: "Vector", /) -> "Vector":
        return Vector(_each(torch._foreach_sub, self.tensors, other.tensors))

    def __mul__(self, scalar: float, /) -> "Vector":
        return Vector(_each(torch._foreach_mul, self.tensors, scalar=scalar))

    __rmul__ = __mul__

    def __truediv__(self, scalar: float, /) -> "Vector":
        return Vector(_each(torch._foreach_div, self.tensors, scalar=scalar))

    def __neg__(self) -> "Vector":
        return Vector(_each(torch._foreach_neg, self.tensors))

    def add(self, other: "Vector", /, *, scale: float) -> "Vector":
        """Return ``self + scale * other`` in one pass over memory.

        Args:
            other: A vector of the same shapes.
            scale: The factor of ``other``.

        Returns:
            The sum.
        """
        return Vector(_each(torch._foreach_add, self.tensors, other.tensors, alpha=scale))

    def add_(self, other: "Vector", /, *, scale: float) -> None:
        """Add ``scale * other`` in place; for a vector that is the caller's own, such as a running sum.

        Args:
            other: A vector of the same shapes.
            scale: The factor of ``other``.
        """
        _each(torch._foreach_add_, self.tensors, other.tensors, alpha=scale)

    def clone(self) -> "Vector":
        """Return a copy that may be changed in place.

        Returns:
            The copy.
        """
        return Vector(t.clone() for t in self.tensors)

    def times(self, other: "Vector", /) -> "Vector":
        """Return the element-wise product, i.e. a diagonal matrix times a vector.

        Args:
            other: A vector of the same shapes.

        Returns:
            The product.
        """
        return Vector(_each(torch._foreach_mul, self.tensors, other.tensors))

    def dot(self, other: "Vector", /) -> Tensor:
        """Return the inner product; half-precision blocks are summed in float32.

        Args:
            other: A vector of the same shapes.

        Returns:
            A 0-dimensional tensor.
        """
        return _agreed(_inner(self, other))

    def norm(self) -> Tensor:
        """Return the Euclidean norm.

        Returns:
            A 0-dimensional tensor.
        """
        return self.dot(self).sqrt()

    def zeros_like(self) -> "Vector":
        """Return the zero vector of the same shapes.

        Returns:
            The zero vector.
        """
        return Vector(torch.zeros_like(t) for t in self.tensors)

    def flat(self) -> Tensor:
        """Return all entries as one tensor: a copy, for small problems, in which sharded tensors are gathered.

        Returns:
            Shape (n,).
        """
        return torch.cat([_whole(t).reshape(-1) for t in self.tensors])

    def from_flat(self, flat: Tensor, /) -> "Vector":
        """Cut a flat tensor into blocks of this vector's shapes, the inverse of :meth:`flat`.

        Args:
            flat: Shape (n,).

        Returns:
            The vector.
        """
        ends = accumulate(t.numel() for t in self.tensors)
        return Vector(
            _placed(flat[end - t.numel() : end].reshape(t.shape), t) for t, end in zip(self.tensors, ends, strict=True)
        )

    def moved_like(self, other: "Vector", /) -> "Vector | None":
        """Return this vector on another's device, in its data type and shards: one remembered, perhaps in a checkpoint.

        Args:
            other: A vector of any shapes.

        Returns:
            The vector; None if the shapes differ.
        """
        if [t.shape for t in self.tensors] != [t.shape for t in other.tensors]:
            return None
        return Vector(_moved_like(t, o) for t, o in zip(self.tensors, other.tensors, strict=True))

    def randn_like(self, generator: torch.Generator) -> "Vector":
        """Return a standard normal vector of the same shapes; the global random state is neither read nor changed.

        Args:
            generator: A generator on the CPU, so that the numbers are the same on every device.

        Returns:
            The random vector.
        """
        return Vector(_randn_like(t, generator) for t in self.tensors)


def dots(*pairs: tuple[Vector, Vector]) -> list[float]:
    """Return several inner products as numbers: the device is waited for once.

    Args:
        *pairs: The vectors, two at a time.

    Returns:
        Their inner products.
    """
    return cast("list[float]", _agreed(torch.stack([_inner(a, b) for a, b in pairs])).tolist())


def is_distributed(t: Tensor, /) -> bool:
    """Say whether a tensor is a ``DTensor``.

    Args:
        t: The tensor.

    Returns:
        Whether its entries, or copies of them, are spread over ranks.
    """
    # Asked of the tensor, not of its class, so that torch.distributed.tensor is imported only by those who use it.
    return type(t) not in (Tensor, torch.nn.Parameter) and hasattr(t, "full_tensor")


def _agreed(numbers: Tensor) -> Tensor:
    agree = _AGREE.get()
    return numbers if agree is None else agree(numbers)


def _each(function: Callable[..., Any], *columns: Sequence[Tensor], **settings: float) -> Sequence[Tensor]:
    # The fused kernels take tensors of one mesh (or of none) at a time.
    meshes = [cast("Any", t).device_mesh if is_distributed(t) else None for t in columns[0]]
    if not meshes or meshes.count(meshes[0]) == len(meshes):
        return function(*columns, **settings) if meshes else ()
    results: list[Tensor] = list(columns[0])
    for mesh in dict.fromkeys(meshes):
        rows = [i for i, m in enumerate(meshes) if m == mesh]
        found = function(*([column[i] for i in rows] for column in columns), **settings)
        for i, t in zip(rows, found or (), strict=False):  # a kernel that works in place may return nothing
            results[i] = t
    return results


def _inner(u: Vector, v: Vector) -> Tensor:
    plain: list[Tensor] = []
    sharded: dict[Any, list[Tensor]] = {}
    for a, b in zip(u.tensors, v.tensors, strict=True):
        if not is_distributed(a):
            plain.append(_dot(a, b))
            continue
        left, right = cast("Any", a), cast("Any", b)
        if right.placements != left.placements:
            right = right.redistribute(placements=left.placements)
        summed = tuple(not p.is_replicate() for p in left.placements)
        sharded.setdefault((left.device_mesh, summed), []).append(_dot(left.to_local(), right.to_local()))
    # The sums over shards are added first, so that one number travels for each mesh.
    return torch.stack(plain + [_summed(sum(parts), *where) for where, parts in sharded.items()]).sum()


def _summed(part: Any, mesh: Any, summed: tuple[bool, ...]) -> Tensor:
    from torch.distributed.tensor import DTensor, Partial, Replicate

    placements = [Partial() if s else Replicate() for s in summed]
    return cast("Tensor", cast("Any", DTensor.from_local(part, mesh, placements, run_check=False)).full_tensor())


def _dot(a: Tensor, b: Tensor) -> Tensor:
    if a.dtype.itemsize < 4:
        a, b = a.float(), b.float()
    return torch.dot(a.reshape(-1), b.reshape(-1))


def _randn_like(t: Tensor, generator: torch.Generator) -> Tensor:
    return _placed(torch.randn(t.shape, generator=generator, dtype=t.dtype).to(t.device), t)


def _moved_like(t: Tensor, other: Tensor) -> Tensor:
    if not is_distributed(t):
        return _placed(t.to(device=other.device, dtype=other.dtype), other)
    if is_distributed(other) and cast("Any", t).device_mesh == cast("Any", other).device_mesh:
        return cast("Any", t.to(dtype=other.dtype)).redistribute(placements=cast("Any", other).placements)
    return _moved_like(_whole(t), other)


def _placed(whole: Tensor, like: Tensor) -> Tensor:
    # Every rank has the whole, so nothing travels.
    if not is_distributed(like):
        return whole
    from torch.distributed.tensor import DTensor, Replicate

    sharded = cast("Any", like)
    everywhere = [Replicate()] * sharded.device_mesh.ndim
    copies = cast("Any", DTensor.from_local(whole, sharded.device_mesh, everywhere, run_check=False))
    return cast("Tensor", copies.redistribute(placements=sharded.placements))


def _whole(t: Tensor) -> Tensor:
    return cast("Any", t).full_tensor() if is_distributed(t) else t
