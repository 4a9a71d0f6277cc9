"""Angles of normals against plain loops."""

import math

import numpy as np
import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.experiments.reproduce.metrics import NormalErrors


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.nn.functional.normalize(torch.randn(4, 3, 6, 7, generator=generator), dim=1)
    guess = torch.nn.functional.normalize(truth + 0.4 * torch.randn(truth.shape, generator=generator), dim=1)
    truth = truth * (torch.rand(4, 1, 6, 7, generator=generator) < 0.7)
    return guess, truth


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_it_is_what_loops_find(batch):
    guess, truth = drawn()
    errors = NormalErrors()
    for part in torch.arange(4).split(batch):
        errors.update(guess[part], truth[part])
    angles = []
    rows = (vectors.double().movedim(1, -1).reshape(-1, 3) for vectors in (guess, truth))
    for g, t in zip(*rows, strict=True):
        if any(t):
            cosine = float(g @ t / (g.norm() * t.norm()))
            angles.append(math.degrees(math.acos(max(-1.0, min(1.0, cosine)))))
    wanted = {"mean angle": np.mean(angles), "median angle": np.median(angles)}
    wanted |= {f"within {x:g}°": 100 * np.mean([a < x for a in angles]) for x in (11.25, 22.5, 30)}
    assert errors.compute() == pytest.approx(wanted, rel=1e-5)


def test_the_median_is_of_all_pixels_not_of_batches():
    def vectors(degrees: list[float]) -> torch.Tensor:
        radians = torch.tensor(degrees).deg2rad()
        return torch.stack([radians.cos(), radians.sin(), 0 * radians])[None, :, None]

    errors = NormalErrors()
    for degrees in ([1.0, 2.0, 3.0], [50.0], [60.0]):
        errors.update(vectors(degrees), vectors([0.0] * len(degrees)))
    assert errors.compute()["median angle"] == pytest.approx(3.0, rel=1e-4)  # of batches it would be 50


def test_lengths_do_not_matter_and_small_angles_are_exact():
    guess, truth = drawn()
    one, other = NormalErrors(), NormalErrors()
    one.update(guess, truth)
    other.update(7 * guess, 0.3 * truth)
    assert one.compute() == pytest.approx(other.compute(), rel=1e-5)
    same = NormalErrors()
    same.update(truth, truth)
    assert same.compute()["mean angle"] < 1e-5


def test_a_zero_guess_is_not_right():
    errors = NormalErrors()
    errors.update(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    assert errors.compute()["mean angle"] == 90


def test_nothing_known_and_nan_are_refused():
    errors = NormalErrors()
    errors.update(torch.full((1, 3, 2, 2), torch.nan), torch.zeros(1, 3, 2, 2))
    with pytest.raises(InputError, match="No normal is known"):
        errors.compute()
    with pytest.raises(InputError, match="NaN"):
        errors.update(torch.full((1, 3, 2, 2), torch.nan), torch.ones(1, 3, 2, 2))
    with pytest.raises(InputError, match="shapes"):
        errors.update(torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 2))
