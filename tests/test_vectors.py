"""Vectors against flat tensors, the axioms of a vector space, and sharded tensors against whole ones."""

import operator
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch import distributed as dist

from auxilearn import Vector
from auxilearn._vectors import dots
from support import DEVICE, DTYPE, generator, normal, process_group

# Derandomised, so that a failure here is a failure everywhere.
examples = settings(deadline=None, max_examples=60, derandomize=True)
shapes = st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), min_size=1, max_size=4)
scalars = st.floats(-100, 100, allow_subnormal=False)


@st.composite
def vectors(draw: st.DrawFn, count: int) -> list[Vector]:
    blocks = draw(shapes)
    seed = draw(st.integers(0, 2**20))
    like = Vector(torch.zeros(shape, dtype=DTYPE, device=DEVICE) for shape in blocks)
    return [like.randn_like(generator(seed + i)) for i in range(count)]


def same(a: Vector, b: Vector) -> None:
    assert len(a) == len(b)
    # The numbers are about 1 to 100 in size, so an absolute error is what rounding leaves.
    for left, right in zip(a, b, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-3 if DTYPE is torch.float32 else 1e-10)


@examples
@given(vectors(3))
def test_addition_is_commutative_and_associative(uvw: list[Vector]) -> None:
    u, v, w = uvw
    same(u + v, v + u)
    same((u + v) + w, u + (v + w))


@examples
@given(vectors(1))
def test_zero_and_the_negative_are_those_of_addition(us: list[Vector]) -> None:
    (u,) = us
    same(u + u.zeros_like(), u)
    same(u + (-u), u.zeros_like())


@examples
@given(vectors(2), scalars, scalars)
def test_scalars_distribute_and_associate(uv: list[Vector], a: float, b: float) -> None:
    u, v = uv
    same(a * (u + v), a * u + a * v)
    same((a + b) * u, a * u + b * u)
    same(a * (b * u), (a * b) * u)
    same(1.0 * u, u)


@examples
@given(vectors(2), scalars)
def test_the_other_operations_are_what_they_abbreviate(uv: list[Vector], a: float) -> None:
    u, v = uv
    same(u - v, u + (-v))
    same(u * a, a * u)
    same(u / (abs(a) + 1.0), (1.0 / (abs(a) + 1.0)) * u)
    same(u.add(v, scale=a), u + a * v)
    sum_of_our_own = u.clone()
    sum_of_our_own.add_(v, scale=a)
    same(sum_of_our_own, u + a * v)


@examples
@given(vectors(2))
def test_dot_norm_and_times_are_those_of_the_flat_tensors(uv: list[Vector]) -> None:
    u, v = uv
    torch.testing.assert_close(u.dot(v), u.flat() @ v.flat())
    torch.testing.assert_close(u.norm(), torch.linalg.vector_norm(u.flat()))
    assert torch.equal(u.times(v).flat(), u.flat() * v.flat())


@examples
@given(vectors(2))
def test_several_dots_are_read_together(uv: list[Vector]) -> None:
    u, v = uv
    assert dots((u, u), (u, v)) == [float(u.dot(u)), float(u.dot(v))]


@examples
@given(vectors(3), scalars)
def test_dot_is_an_inner_product(uvw: list[Vector], a: float) -> None:
    u, v, w = uvw
    tolerance = {"rtol": 1e-4, "atol": 1e-2} if DTYPE is torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(u.dot(v), v.dot(u))
    torch.testing.assert_close(u.add(w, scale=a).dot(v), u.dot(v) + a * w.dot(v), **tolerance)
    assert float(u.dot(u)) >= 0
    assert abs(float(u.dot(v))) <= float(u.norm() * v.norm()) * (1 + 1e-5)


@examples
@given(vectors(1))
def test_flat_and_from_flat_are_inverse(us: list[Vector]) -> None:
    (u,) = us
    back = u.from_flat(u.flat())
    assert [t.shape for t in back] == [t.shape for t in u]
    assert all(map(torch.equal, back, u))
    numbers = normal(*u.flat().shape)
    assert torch.equal(u.from_flat(numbers).flat(), numbers)


@pytest.mark.parametrize(
    "operation",
    [
        operator.add,
        operator.sub,
        lambda u, v: u * 2.0,
        lambda u, v: u / 2.0,
        lambda u, v: -u,
        lambda u, v: u.add(v, scale=3.0),
        lambda u, v: u.times(v),
        lambda u, v: u.clone(),
        lambda u, v: u.zeros_like(),
        lambda u, v: u.randn_like(generator(0)),
        lambda u, v: u.dot(v),
        lambda u, v: u.norm(),
        lambda u, v: u.flat(),
    ],
)
def test_no_operation_changes_its_operands_or_shares_their_memory(
    operation: Callable[[Vector, Vector], Vector | Tensor],
) -> None:
    u, v = (Vector([normal(2, 3, seed=s), normal(4, seed=s + 9)]) for s in (0, 1))
    before = u.flat(), v.flat()
    result = operation(u, v)
    for t in result if isinstance(result, Vector) else [result]:
        t.zero_()
    assert torch.equal(u.flat(), before[0])
    assert torch.equal(v.flat(), before[1])


def test_an_addition_in_place_changes_the_left_operand_only() -> None:
    u, v = Vector([normal(3)]), Vector([normal(3, seed=1)])
    before, other = u.flat(), v.flat()
    u.add_(v, scale=2.0)
    torch.testing.assert_close(u.flat(), before + 2.0 * other)
    assert torch.equal(v.flat(), other)


def test_blocks_may_be_scalars_and_may_lie_in_memory_in_any_order() -> None:
    v = Vector([torch.tensor(3.0, dtype=DTYPE, device=DEVICE), normal(3, 2).T])
    torch.testing.assert_close(v.dot(v), v.flat().square().sum())
    assert torch.equal(v.from_flat(v.flat()).tensors[1], normal(3, 2).T)


def test_blocks_are_a_sequence_with_a_length_and_a_readable_name() -> None:
    v = Vector(t for t in (torch.zeros(2, 3), torch.zeros(())))
    assert len(v) == 2
    assert [tuple(t.shape) for t in v] == [(2, 3), ()]
    assert repr(v) == "Vector((2, 3), ())"


@pytest.mark.parametrize("mismatch", [[], [torch.ones(2), torch.ones(2)]])
def test_another_number_of_blocks_is_no_inner_product(mismatch: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="zip"):
        Vector([torch.ones(2)]).dot(Vector(mismatch))


def test_random_vectors_are_reproducible_and_leave_the_global_state_alone() -> None:
    like = Vector([torch.zeros(3, 2, dtype=DTYPE, device=DEVICE), torch.zeros((), dtype=DTYPE, device=DEVICE)])
    before = torch.get_rng_state()
    first, second, other = (like.randn_like(generator(seed)).flat() for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    torch.manual_seed(1)
    assert torch.equal(like.randn_like(generator(5)).flat(), first)
    assert (first.dtype, first.device.type) == (DTYPE, DEVICE.type)


def test_random_vectors_are_standard_normal() -> None:
    numbers = Vector([torch.zeros(50, 100), torch.zeros(5000)]).randn_like(generator(0)).flat()
    assert abs(float(numbers.mean())) < 0.05
    assert abs(float(numbers.std()) - 1.0) < 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    v = Vector([torch.full((3000,), 10.0, dtype=dtype, device=DEVICE)])
    # bfloat16 cannot count beyond 256 of equal terms, and 300,000 overflows float16.
    assert float(v.dot(v)) == 300_000.0
    assert v.dot(v).dtype == torch.float32
    assert v.randn_like(generator(0)).tensors[0].dtype == dtype


needs_distributed = pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")


def check_sharded(rank: int, size: int, store: Path) -> None:
    """Compare every operation on shards with that on the whole; runs in every process of a group."""
    with process_group(store, rank=rank, size=size):
        _compare_with_whole(size)


def _compare_with_whole(size: int) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
    from torch.distributed.tensor.debug import CommDebugMode

    mesh = init_device_mesh("cpu", (size,))
    placements = [Shard(0), Shard(1), Replicate()]

    def shards(whole: Vector) -> Vector:
        return Vector(distribute_tensor(t.clone(), mesh, [p]) for t, p in zip(whole, placements, strict=True))

    def whole(v: Vector) -> Tensor:
        return Vector(t.full_tensor() if isinstance(t, DTensor) else t for t in v).flat()

    like = Vector(torch.zeros(shape) for shape in [(5, 2), (2, 3), (4,)])  # 5 rows over 2 ranks: uneven shards
    u, v = like.randn_like(generator(1)), like.randn_like(generator(2))
    du, dv = shards(u), shards(v)
    communication = CommDebugMode()
    with communication:
        results = [
            (du + dv, u + v),
            (du - dv, u - v),
            (2.0 * du / 3.0, 2.0 * u / 3.0),
            (-du, -u),
            (du.add(dv, scale=0.5), u.add(v, scale=0.5)),
            (du.times(dv), u.times(v)),
            (du.zeros_like(), u.zeros_like()),
            (du.clone(), u),
        ]
    assert communication.get_total_counts() == 0
    for found, exact in results:
        assert all(isinstance(t, DTensor) for t in found)
        torch.testing.assert_close(whole(found), exact.flat())
    du.add_(dv, scale=2.0)
    torch.testing.assert_close(whole(du), u.add(v, scale=2.0).flat())
    du = shards(u)

    with communication:
        found_dot, found_norm = du.dot(dv), du.norm()
    # The parts of the sums travel, one number a rank; the tensors do not.
    assert {"all_reduce"} >= {str(op).split(".")[-1] for op in communication.get_comm_counts()}
    torch.testing.assert_close(found_dot, u.dot(v))
    torch.testing.assert_close(found_norm, u.norm())

    random = du.randn_like(generator(3))
    assert all(isinstance(t, DTensor) and t.placements == (p,) for t, p in zip(random, placements, strict=True))
    torch.testing.assert_close(whole(random), like.randn_like(generator(3)).flat())

    half = Vector(torch.full((3000, 1), 10.0, dtype=torch.bfloat16) for _ in placements)
    assert float(shards(half).dot(shards(half))) == 900_000.0


@needs_distributed
def test_shards_in_one_process_equal_the_whole(tmp_path: Path) -> None:
    check_sharded(0, 1, tmp_path / "store")


@needs_distributed
def test_shards_in_two_processes_equal_the_whole(tmp_path: Path) -> None:
    # This file run by its path, for the name under which pytest imports it depends on how pytest was called.
    store = str(tmp_path / "store")
    processes = [subprocess.Popen([sys.executable, __file__, str(rank), store]) for rank in range(2)]
    try:
        assert [p.wait(timeout=120) for p in processes] == [0, 0]
    finally:
        for p in processes:
            p.kill()
            p.wait()


if __name__ == "__main__":
    check_sharded(int(sys.argv[1]), 2, Path(sys.argv[2]))
