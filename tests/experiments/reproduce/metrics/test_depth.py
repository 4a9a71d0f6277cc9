"""Depth errors against plain loops."""

import numpy as np
import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.experiments.reproduce.metrics import DepthErrors


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_it_is_what_loops_find(batch):
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(5, 1, 6, 7, generator=generator) * 5
    truth[torch.rand(truth.shape, generator=generator) < 0.3] = 0
    truth[2] = 0
    guess = truth + torch.randn(truth.shape, generator=generator)
    errors = DepthErrors()
    for part in torch.arange(5).split(batch):
        errors.update(guess[part], truth[part])
    absolute, relative = [], []
    for g, t in zip(guess.numpy().ravel(), truth.numpy().ravel(), strict=True):
        if t != 0:
            absolute.append(abs(np.float64(g) - np.float64(t)))
            relative.append(absolute[-1] / np.float64(t))
    assert errors.compute() == pytest.approx(
        {"absolute error": np.mean(absolute), "relative error": np.mean(relative)}, rel=1e-12
    )


def test_many_pixels_lose_no_digits():
    errors = DepthErrors()
    for _ in range(20):
        errors.update(torch.full((100_000,), 1.1), torch.ones(100_000))
    assert errors.compute()["absolute error"] == pytest.approx(float(torch.tensor(1.1)) - 1, rel=1e-12)


def test_nothing_known_and_nan_are_refused():
    errors = DepthErrors()
    errors.update(torch.tensor([torch.nan, 1.0]), torch.zeros(2))  # what is unknown is not read
    with pytest.raises(InputError, match="No depth is known"):
        errors.compute()
    errors.update(torch.tensor([torch.nan, 1.0]), torch.ones(2))
    with pytest.raises(InputError, match="nan"):
        errors.compute()
    with pytest.raises(InputError, match="one shape"):
        errors.update(torch.ones(2, 1, 3), torch.ones(2, 3))
