import pytest
import torch

from auxilearn.experiments.reproduce.combined._row_noise import RowNoise


def slow(row: int, rows: list[int], place: int) -> float:
    """Compute one number with Python's unbounded integers."""
    limit, golden = 2**64, 0x9E3779B97F4A7C15

    def mixed(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % limit
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % limit
        return x ^ (x >> 31)

    def first(number: int) -> int:
        return mixed((number * golden + 0xBF58476D1CE4E5B9) % limit)

    company = mixed(sum(map(first, rows)) % limit)
    key = mixed((first(row) + company) % limit)
    return (mixed((key + (place + 1) * golden) % limit) >> 40) / 2**24


def test_the_numbers_are_those_of_unbounded_integers() -> None:
    rows = [0, 7, 12345]
    found = RowNoise(torch.tensor(rows)).uniform(4, stream=2)
    for i, row in enumerate(rows):
        wanted = [slow(row, rows, place + (2 << 32)) for place in range(4)]
        assert found[i].tolist() == pytest.approx(wanted, abs=1e-7)


def test_company_and_stream_matter_and_order_does_not() -> None:
    one, other = RowNoise(torch.tensor([5, 6])), RowNoise(torch.tensor([5, 7]))
    assert torch.equal(one.uniform(9, stream=0), RowNoise(torch.tensor([6, 5])).uniform(9, stream=0).flip(0))
    assert not torch.equal(one.uniform(9, stream=0)[0], other.uniform(9, stream=0)[0])
    assert not torch.equal(one.uniform(9, stream=0), one.uniform(9, stream=1))
    assert not torch.equal(one.uniform(9, stream=0)[0], one.uniform(9, stream=0)[1])


def test_the_numbers_look_uniform_and_normal() -> None:
    noise = RowNoise(torch.arange(200))
    uniform, normal = noise.uniform(500, stream=0), noise.normal(500, stream=1)
    assert 0 <= float(uniform.min()) < float(uniform.max()) < 1
    assert (uniform * 16).long().flatten().bincount().div(uniform.numel()).tolist() == pytest.approx(
        [1 / 16] * 16, rel=0.03
    )
    moments = [float((normal**k).mean()) for k in (1, 2, 4)]
    assert moments == pytest.approx([0, 1, 3], abs=0.05)
    correlation = torch.corrcoef(torch.stack([uniform[:-1].flatten(), uniform[1:].flatten()]))[0, 1]
    assert abs(float(correlation)) < 0.02


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    RowNoise(torch.arange(3)).normal(5, stream=0)
    assert torch.equal(before, torch.get_rng_state())
