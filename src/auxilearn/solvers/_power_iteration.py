"""An estimate of the largest eigenvalue that gets better from call to call."""

import math
from typing import Any, NamedTuple, final

from auxilearn._vectors import Vector, dots
from auxilearn.curvature import CurvatureOperator


class Estimate(NamedTuple):
    """The size of the largest eigenvalue, from below, and whether negative curvature was met."""

    largest: float
    negative: bool


@final
class PowerIteration:
    r"""Power iteration whose vector is kept, for the spectrum changes slowly during training.

    .. math:: u \leftarrow H u / \|H u\|, \qquad \hat\lambda = \|H u\| \le \lambda_{\max}

    It starts from the right-hand side rather than from noise: solvers of the system stay in the Krylov space of ``v``,
    so only the eigenvalues present in ``v`` matter, and no random state is needed. Later calls mix the new right-hand
    side in, lest a direction be missed that the old ones did not have.
    """

    def __init__(self) -> None:
        self._vector: Vector | None = None

    def update(self, H: CurvatureOperator, v: Vector, first_steps: int, /) -> Estimate:
        """Take the next step of the power iteration, or the first few.

        Args:
            H: The operator.
            v: The right-hand side, not zero.
            first_steps: Products at the first call, or when the shapes have changed; later calls use one.

        Returns:
            The estimate; NaN or infinite if a product is.
        """
        u, steps = v / float(v.norm()), first_steps
        kept = None if self._vector is None else self._vector.moved_like(v)
        if kept is not None:
            mixed = kept.add(u, scale=0.1)
            u, steps = mixed / float(mixed.norm()), 1
        largest, negative = 0.0, False
        for _ in range(steps):
            product = H @ u
            square, curvature = dots((product, product), (u, product))
            size = math.sqrt(square) if square >= 0 else math.nan
            if size == 0.0 or not math.isfinite(size):
                return Estimate(max(largest, size) if size == 0.0 else size, negative)
            negative = negative or curvature < 0
            largest, u = max(largest, size), product / size
        self._vector = u
        return Estimate(largest, negative)

    def restart(self, u: Vector, /) -> None:
        """Go on from another vector, one that is known to lie along a large eigenvalue.

        Args:
            u: The vector, not zero.
        """
        self._vector = u / float(u.norm())

    def state_dict(self) -> dict[str, Any]:
        """Return the vector.

        Returns:
            The tensors of the vector, or nothing before the first call; no copies, for they are never written.
        """
        return {} if self._vector is None else {"vector": list(self._vector)}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Restore the vector.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self._vector = Vector(t.clone() for t in state["vector"]) if "vector" in state else None
