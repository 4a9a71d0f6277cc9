"""The root of the outputs' curvature against the dense Hessian of the loss, row by row."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss, softplus

from auxilearn.errors import InputError
from auxilearn.solvers._output_root import output_curvature, random_cotangents, root_times
from support import DEVICE, close, generator, normal


def classes(z: Tensor) -> Tensor:
    return cross_entropy(z.reshape(-1, z.shape[-1]), torch.arange(z[..., 0].numel(), device=DEVICE) % z.shape[-1])


def mixed(z: Tensor) -> Tensor:
    """A loss that is no likelihood: a cross entropy, and binary losses combined by a square root."""
    binary = binary_cross_entropy_with_logits(z[:, 2:], torch.ones_like(z[:, 2:]) / 3, reduction="none").sum(1)
    first = cross_entropy(z[:, :2], torch.zeros(len(z), dtype=torch.long, device=DEVICE), reduction="none")
    return (first + (1 + binary).sqrt()).mean()


def dense(loss: Tensor, z: Tensor) -> Tensor:
    """Return ∂²_z L as a matrix."""
    product = output_curvature(loss, z)
    unit = torch.eye(z.numel(), dtype=z.dtype, device=DEVICE)
    return torch.stack([product(e.reshape(z.shape)).reshape(-1) for e in unit])


@pytest.mark.parametrize("loss_of", [classes, mixed, lambda z: mse_loss(z, torch.ones_like(z))])
@pytest.mark.parametrize("draws", [4, 100])
def test_with_a_draw_for_each_class_the_outer_products_are_the_curvature(loss_of, draws: int) -> None:
    z = normal(6, 4, seed=1).requires_grad_()
    loss = loss_of(z)
    found = random_cotangents(loss, z, draws, generator(0))
    assert found.shape == (4, 6, 4)
    blocks = torch.einsum("dni,dnj->nij", found, found)
    H = dense(loss, z).reshape(6, 4, 6, 4)
    exact = torch.stack([H[n, :, n] for n in range(6)])
    values, vectors = torch.linalg.eigh(exact)  # `mixed` is not convex: negative eigenvalues count as zero
    assert close(blocks, vectors * values.clamp(min=0)[:, None] @ vectors.mT, 1e-10)


def test_fewer_draws_are_right_on_average() -> None:
    z = normal(3, 5, seed=2).requires_grad_()
    loss = classes(z)
    found = random_cotangents(loss, z, 2, generator(1))
    assert found.shape == (2, 3, 5)
    many = torch.cat([random_cotangents(loss, z, 4, generator(k)) for k in range(2000)]).reshape(2000, 4, 3, 5)
    mean = torch.einsum("kdni,kdmj->nimj", many, many) / 2000
    exact = dense(loss, z).reshape(3, 5, 3, 5)
    assert float((mean - exact).norm() / exact.norm()) < 0.05


def test_several_rows_a_sample_get_signs_of_their_own() -> None:
    z = normal(2, 3, 4, seed=3).requires_grad_()
    found = random_cotangents(classes(z), z, 4, generator(0))
    assert found.shape == (4, 2, 3, 4)
    blocks = torch.einsum("dnti,dntj->ntij", found, found)
    H = dense(classes(z), z).reshape(2, 3, 4, 2, 3, 4)
    assert close(blocks, torch.stack([torch.stack([H[n, t, :, n, t] for t in range(3)]) for n in range(2)]), 1e-10)


def test_outputs_may_be_one_number_a_sample() -> None:
    z = normal(7, seed=4).requires_grad_()
    found = random_cotangents(softplus(z).mean(), z, 3, generator(0))
    p = z.detach().sigmoid()
    assert found.shape == (1, 7)
    assert close(found[0].square(), p * (1 - p) / 7, 1e-12)


def test_a_loss_that_is_linear_in_the_outputs_has_no_curvature() -> None:
    z = normal(3, 2).requires_grad_()
    assert not random_cotangents(z.sum(), z, 2, generator(0)).any()


def test_a_loss_of_other_outputs_is_refused() -> None:
    z, other = normal(3, 2).requires_grad_(), normal(3, 2).requires_grad_()
    with pytest.raises(InputError, match="must be computed from `outputs`"):
        random_cotangents(classes(other), z, 2, generator(0))


@pytest.mark.parametrize("size", [1, 3, 30])
def test_few_steps_are_enough_for_a_large_block(size: int) -> None:
    p = torch.softmax(normal(5, size, seed=6), -1)
    blocks = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    u = normal(5, size, seed=7)
    values, vectors = torch.linalg.eigh(blocks)
    exact = ((vectors * values.clamp(min=0).sqrt()[:, None] @ vectors.mT) @ u[..., None])[..., 0]
    found = root_times(lambda w: (blocks @ w[..., None])[..., 0], u, 10)
    assert float((found - exact).norm()) <= 0.03 * float(u.norm())
    whole = root_times(lambda w: (blocks @ w[..., None])[..., 0], u, size)
    assert close(whole, exact, 1e-7)
