"""Random states come back, through a file that holds nothing but tensors and plain values."""

import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from auxilearn.training._randomness import random_states, set_random_states


def drawn() -> list[Any]:
    return [torch.rand(2).tolist(), random.random(), random.gauss(0, 1)]


def through_a_file(states: dict[str, Any], folder: Path) -> dict[str, Any]:
    torch.save(states, folder / "states.pt")
    return torch.load(folder / "states.pt", weights_only=True)


def test_what_is_drawn_next_is_drawn_again(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    random.gauss(0, 1)  # the second of a pair is kept for the next call
    np.random.standard_normal()
    states = through_a_file(random_states(), tmp_path)
    first = [*drawn(), *np.random.standard_normal(3).tolist()]
    assert [*drawn(), *np.random.standard_normal(3).tolist()] != first
    set_random_states(states)
    assert [*drawn(), *np.random.standard_normal(3).tolist()] == first


def test_another_generator_of_numpy_comes_back_too(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    before = np.random.get_bit_generator()
    try:
        for kind in (np.random.PCG64, np.random.Philox, np.random.SFC64):
            np.random.set_bit_generator(kind(1))
            states = through_a_file(random_states(), tmp_path)
            first = np.random.random(5).tolist()
            set_random_states(states)
            assert np.random.random(5).tolist() == first
    finally:
        np.random.set_bit_generator(before)


def test_numpy_is_not_needed_before_or_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_numpy = random_states()
    monkeypatch.setitem(sys.modules, "numpy", None)
    for states in (with_numpy, through_a_file(random_states(), tmp_path)):
        set_random_states(states)
        first = drawn()
        set_random_states(states)
        assert drawn() == first
    monkeypatch.undo()
    set_random_states(states)
    assert states["numpy"] is None
