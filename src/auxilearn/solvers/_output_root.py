"""The root of the loss's curvature in the outputs, times vectors, for all samples at once."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from auxilearn._autograd import filled, gradients
from auxilearn._checks import explain, low_precision
from auxilearn._linalg import symmetric_eigen
from auxilearn.errors import InputError

Product = Callable[[Tensor], Tensor]
_STEPS = 10  # products in output space a root, which cost next to nothing


def output_curvature(loss: Tensor, outputs: Tensor, /) -> Product:
    """Return the products with ∂²_z L, of a loss whose rows do not interact.

    Args:
        loss: A scalar, computed from ``outputs``.
        outputs: Shape (N, ..., C) or (N,), with its graph.

    Returns:
        A function of tensors (..., C).

    Raises:
        InputError: If the loss does not depend on the outputs.
    """
    (slope,) = gradients(loss, (outputs,), create_graph=True)
    if slope is None:
        rule = "`loss` must be computed from `outputs`."
        cure = "Pass the very tensor that the loss was computed from, not a second forward pass."
        raise InputError(explain(rule, "It does not depend on them.", cure))

    def product(u: Tensor) -> Tensor:
        if not slope.requires_grad:  # the loss is linear in the outputs
            return torch.zeros_like(u)
        return filled(gradients(slope, (outputs,), (u.to(slope),)), (outputs,)).tensors[0].to(u)

    return product


def root_times(product: Product, u: Tensor, steps: int, /) -> Tensor:
    r"""Return :math:`A^{1/2} u` for a positive semi-definite A that is a block for each row, by Lanczos' method.

    With :math:`A V = V T` on the Krylov space of :math:`u` it is :math:`\|u\|\, V T^{1/2} e_1`, exact as soon as the
    space holds :math:`u`'s images; all rows take their steps at once. Negative eigenvalues count as zero.

    Args:
        product: Products with A, row by row.
        u: Shape (..., C).
        steps: The most products used.

    Returns:
        Shape (..., C).
    """
    size = _norms(u)
    tiny = torch.finfo(u.dtype).tiny
    basis = [u / size.clamp(min=tiny)]
    diagonal: list[Tensor] = []
    below: list[Tensor] = []
    largest = torch.zeros_like(size)
    for step in range(min(steps, u.shape[-1])):
        w = product(basis[-1])
        diagonal.append((w * basis[-1]).sum(-1))
        largest = torch.maximum(largest, _norms(w))
        for _ in range(2):  # orthogonalised twice, against all: the three-term recurrence loses orthogonality
            for b in basis:
                w = w - (w * b).sum(-1, keepdim=True) * b
        beta = _norms(w)
        # Rows whose space is exhausted go on with zeros, and with nothing that couples them to the rest.
        beta = torch.where(beta <= 1e2 * torch.finfo(u.dtype).eps * largest, torch.zeros_like(beta), beta)
        if step + 1 == min(steps, u.shape[-1]) or not bool(beta.any()):
            break
        below.append(beta[..., 0])
        basis.append(torch.where(beta > 0, w / beta.clamp(min=tiny), torch.zeros_like(w)))
    tridiagonal = torch.diag_embed(torch.stack(diagonal, -1))
    if below:
        side = torch.stack(below, -1)
        tridiagonal = tridiagonal + torch.diag_embed(side, 1) + torch.diag_embed(side, -1)
    values, vectors = symmetric_eigen(tridiagonal)
    # The root of what is zero up to rounding is not small.
    rounding = len(basis) * torch.finfo(u.dtype).eps * values[..., -1:].clamp(min=0)
    values = torch.where(values > rounding, values, torch.zeros_like(values))
    weights = (vectors * (values.sqrt() * vectors[..., 0, :])[..., None, :]).sum(-1)  # T^{1/2} e_1
    return size * sum((w[..., None] * b for w, b in zip(weights.unbind(-1), basis, strict=True)), torch.zeros_like(u))


def random_cotangents(loss: Tensor, outputs: Tensor, draws: int, generator: torch.Generator, /) -> Tensor:
    r"""Return vectors in output space whose outer products, over all draws, are ∂²_z L on average.

    They are :math:`(\partial_z^2 L)^{1/2} \varepsilon` with random signs, which keep apart what a row's pullback sums.
    With as many draws as classes each class has one of its own, so that outputs of one row a sample are exact.

    Args:
        loss: See :func:`output_curvature`.
        outputs: See :func:`output_curvature`.
        draws: How many; no more than C are used.
        generator: Where the signs come from.

    Returns:
        Shape (draws, *outputs).
    """
    product = output_curvature(loss, outputs)
    like = outputs.detach().float() if low_precision(outputs.dtype) else outputs.detach()
    if like.dim() == 1:  # one number a sample
        like, flat = like[:, None], product

        def product(u: Tensor, /) -> Tensor:
            return flat(u[:, 0])[:, None]

    classes = like.shape[-1]

    def signs(*size: int) -> Tensor:
        return (torch.randint(2, size, generator=generator) * 2 - 1).to(like)

    if draws < classes:
        chosen = [signs(*like.shape) / math.sqrt(draws) for _ in range(draws)]
    else:
        unit = torch.eye(classes).to(like)
        chosen = [unit[c].expand(like.shape) * signs(*like.shape[:-1], 1) for c in range(classes)]
    return torch.stack([root_times(product, u, _STEPS).reshape(outputs.shape) for u in chosen])


def _norms(rows: Tensor) -> Tensor:
    return rows.square().sum(-1, keepdim=True).sqrt()
