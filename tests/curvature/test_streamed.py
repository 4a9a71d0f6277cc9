"""Streaming: the mean over batches, rebuilt one at a time, with the same random numbers every time."""

import weakref

import pytest
import torch
from torch import Tensor, nn

from auxilearn import Vector
from auxilearn.curvature import Hessian, LossCurvature, Streamed
from auxilearn.errors import InputError
from support import DEVICE, close, matrix_of, normal

Batch = tuple[Tensor, Tensor]


class Task:
    """A network with dropout, if asked for, and batches of equal size."""

    def __init__(self, dropout: float = 0.0) -> None:
        torch.manual_seed(0)
        layers = nn.Linear(2, 3), nn.Tanh(), nn.Dropout(dropout), nn.Linear(3, 1)
        self.model = nn.Sequential(*layers).to(DEVICE, torch.float64)
        self.params = list(self.model.parameters())
        self.phi = torch.ones(1, dtype=torch.float64, device=DEVICE, requires_grad=True)
        inputs, targets = normal(3, 4, 2, dtype=torch.float64), normal(3, 4, 1, dtype=torch.float64, seed=1)
        self.batches = list(zip(inputs, targets, strict=True))

    def loss(self, batch: Batch) -> Tensor:
        return (self.model(batch[0]) - batch[1]).square().mean() * self.phi.exp().sum()

    def build(self, batch: Batch) -> LossCurvature:
        return Hessian(self.loss(batch), self.params)

    def whole(self) -> LossCurvature:
        inputs, targets = zip(*self.batches, strict=True)
        return self.build((torch.cat(inputs), torch.cat(targets)))

    def like(self) -> Vector:
        return Vector(p.detach() for p in self.params)


def test_it_is_the_hessian_of_the_mean_loss() -> None:
    task = Task()
    H, whole, x = Streamed(task.build, task.batches), task.whole(), task.like()
    assert close(matrix_of(H, x), matrix_of(whole, x), 1e-12)
    assert close(H.gradient().flat(), whole.gradient().flat(), 1e-12)
    (found,), (exact,) = H.cross(x, [task.phi]), whole.cross(x, [task.phi])
    assert found is not None
    assert exact is not None
    assert close(found, exact, 1e-12)


def test_batches_may_come_from_a_generator() -> None:
    task = Task()
    H = Streamed(task.build, (batch for batch in task.batches))
    assert close(matrix_of(H, task.like()), matrix_of(task.whole(), task.like()), 1e-12)


def test_one_batch_is_in_memory_at_a_time() -> None:
    task, built = Task(), []

    def build(batch: Batch) -> LossCurvature:
        assert all(earlier() is None for earlier in built)
        operator = task.build(batch)
        built.append(weakref.ref(operator))
        return operator

    H = Streamed(build, task.batches)
    H @ task.like()
    H.cross(task.like(), [task.phi])
    assert len(built) == 1 + 3 + 3  # one at the start, to learn the parameters


def test_every_product_sees_the_same_dropout() -> None:
    task = Task(dropout=0.5)
    torch.manual_seed(3)
    H, x = Streamed(task.build, task.batches), task.like()
    state = torch.get_rng_state()
    torch.manual_seed(3)
    exact = sum(((task.build(batch) @ x).flat() for batch in task.batches), torch.zeros(()).to(x.flat())) / 3
    torch.set_rng_state(state)
    for _ in range(2):
        torch.rand(5)
        assert close((H @ x).flat(), exact, 1e-12)
    matrix = matrix_of(H, x)
    assert close(matrix, matrix.T, 1e-12)


def test_the_random_state_stays() -> None:
    task = Task(dropout=0.5)
    state = torch.get_rng_state()
    H = Streamed(task.build, task.batches)
    H @ task.like()
    H.gradient()
    H.cross(task.like(), [task.phi])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_random_state_comes_back_when_a_batch_fails() -> None:
    task, calls = Task(dropout=0.5), []

    def build(batch: Batch) -> LossCurvature:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return task.build(batch)

    H = Streamed(build, task.batches)
    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        H @ task.like()
    assert torch.equal(torch.get_rng_state(), state)


def test_damping_adds_to_that_of_the_batches() -> None:
    task = Task()
    x = task.like()
    H = Streamed(lambda batch: Hessian(task.loss(batch), task.params, damping=0.5), task.batches, damping=0.25)
    assert close((H @ x).flat(), (task.whole() @ x).add(x, scale=0.75).flat(), 1e-12)
    assert H.products == 1


def test_a_parameter_that_some_batches_reach_has_the_mean_over_all() -> None:
    w, phi, other = (torch.ones(1, dtype=torch.float64, device=DEVICE, requires_grad=True) for _ in range(3))
    H = Streamed(lambda use: Hessian((w**2).sum() * (1 + use * phi.sum() if use else 1), [w]), [0, 1])
    found, nothing = H.cross(Vector([torch.ones_like(w)]), [phi, other])
    assert found is not None
    assert nothing is None
    assert float(found) == 1.0  # (0 + 2 w) / 2


def test_a_build_that_is_no_function_or_returns_no_operator_is_refused() -> None:
    task = Task()
    with pytest.raises(InputError, match=r"`build` must be a function\. It is a `Hessian`"):
        Streamed(task.whole(), task.batches)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`build` must return a curvature operator\. It returned a `Tensor`"):
        Streamed(task.loss, task.batches)  # type: ignore[arg-type]


def test_no_batches_are_refused() -> None:
    task = Task()
    with pytest.raises(InputError, match="`batches` must hold at least one batch"):
        Streamed(task.build, iter(()))


def test_batches_that_reach_different_parameters_are_refused() -> None:
    a, b = (torch.ones(1, dtype=torch.float64, device=DEVICE, requires_grad=True) for _ in range(2))
    H = Streamed(lambda first: Hessian((a if first else a + b).square().sum(), [a, b]), [True, False])
    with pytest.raises(InputError, match="One acts on 2 tensors, the first batch's on 1"):
        H @ Vector([torch.ones_like(a)])
