"""Vector algebra on tuples of tensors, so that solvers read like the textbook."""

# The fused element-wise kernels `torch._foreach_*` have no public name; torch.optim uses them in the same way.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, cast, final

import torch
from torch import Tensor


@final
class Vector:
    r"""An element of parameter space: a tuple of tensors with the operations of a vector space.

    The tensors are never concatenated, for that would copy them and would gather sharded ones (``DTensor``).
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
        return Vector(torch._foreach_add(self.tensors, other.tensors))

    def __sub__(self, other: "Vector", /) -> "Vector":
        return Vector(torch._foreach_sub(self.tensors, other.tensors))

    def __mul__(self, scalar: float, /) -> "Vector":
        return Vector(torch._foreach_mul(self.tensors, scalar))

    __rmul__ = __mul__

    def __truediv__(self, scalar: float, /) -> "Vector":
        return Vector(torch._foreach_div(self.tensors, scalar))

    def __neg__(self) -> "Vector":
        return Vector(torch._foreach_neg(self.tensors))

    def add(self, other: "Vector", /, *, scale: float) -> "Vector":
        """Return ``self + scale * other`` in one pass over memory.

        Args:
            other: A vector of the same shapes.
            scale: The factor of ``other``.

        Returns:
            The sum.
        """
        return Vector(torch._foreach_add(self.tensors, other.tensors, alpha=scale))

    def add_(self, other: "Vector", /, *, scale: float) -> None:
        """Add ``scale * other`` in place; for a vector that is the caller's own, such as a running sum.

        Args:
            other: A vector of the same shapes.
            scale: The factor of ``other``.
        """
        torch._foreach_add_(self.tensors, other.tensors, alpha=scale)

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
        return Vector(torch._foreach_mul(self.tensors, other.tensors))

    def dot(self, other: "Vector", /) -> Tensor:
        """Return the inner product; half-precision blocks are summed in float32.

        Args:
            other: A vector of the same shapes.

        Returns:
            A 0-dimensional tensor.
        """
        return torch.stack([_dot(a, b) for a, b in zip(self.tensors, other.tensors, strict=True)]).sum()

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
        """Return all entries as one tensor: a copy, for small problems and not for sharded tensors.

        Returns:
            Shape (n,).
        """
        return torch.cat([t.reshape(-1) for t in self.tensors])

    def from_flat(self, flat: Tensor, /) -> "Vector":
        """Cut a flat tensor into blocks of this vector's shapes, the inverse of :meth:`flat`.

        Args:
            flat: Shape (n,).

        Returns:
            The vector.
        """
        ends = accumulate(t.numel() for t in self.tensors)
        return Vector(flat[end - t.numel() : end].reshape(t.shape) for t, end in zip(self.tensors, ends, strict=True))

    def moved_like(self, other: "Vector", /) -> "Vector | None":
        """Return this vector on another's device and in its data type: one remembered, perhaps in a checkpoint.

        Args:
            other: A vector of any shapes.

        Returns:
            The vector; None if the shapes differ.
        """
        if [t.shape for t in self.tensors] != [t.shape for t in other.tensors]:
            return None
        return Vector(t.to(o) for t, o in zip(self.tensors, other.tensors, strict=True))

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
    return cast("list[float]", torch.stack([a.dot(b) for a, b in pairs]).tolist())


def _dot(a: Tensor, b: Tensor) -> Tensor:
    if a.dtype.itemsize < 4:
        a, b = a.float(), b.float()
    if _is_distributed(a):
        # The sum over a shard is partial; `full_tensor` adds the ranks' parts.
        return cast("Any", (a * b).sum()).full_tensor()
    return torch.dot(a.reshape(-1), b.reshape(-1))


def _randn_like(t: Tensor, generator: torch.Generator) -> Tensor:
    full = torch.randn(t.shape, generator=generator, dtype=t.dtype).to(t.device)
    if _is_distributed(t):
        from torch.distributed.tensor import DTensor, distribute_tensor

        sharded = cast("DTensor", t)
        return distribute_tensor(full, sharded.device_mesh, sharded.placements)
    return full


def _is_distributed(t: Tensor) -> bool:
    # Asked of the tensor, not of its class, so that torch.distributed is imported only by those who use it.
    return hasattr(t, "full_tensor")
