"""What may go wrong is said in one line, and nothing is said where nothing is wrong."""

import math

import torch

from auxilearn.training._monitor import collapse, overfitting
from support import normal


def test_weights_that_collapsed() -> None:
    assert collapse({"main": 1.0, "a": 0.5, "b": 0.0, "c": 0.3}, "main") is None
    assert collapse({"main": 1.0, "a": 0.5, "b": 0.0}, "main") is None
    line = collapse({"main": 1.0, "a": 0.5, "b": 0.0, "c": 0.01}, "main")
    assert line is not None
    assert line.startswith("The weights collapsed onto `a`")
    line = collapse({"main": 1.0, "a": 0.001}, "main")
    assert (
        line == "The weights collapsed: the auxiliary loss has a weight below 0.02, so only the main loss is trained."
    )


def test_an_outer_set_that_is_overfitted() -> None:
    outer, watched = normal(20).abs(), normal(30, seed=1).abs() + 2
    gap = float(watched.mean() - outer.mean())
    t = gap / math.sqrt(float(outer.var()) / 20 + float(watched.var()) / 30)
    line = overfitting(outer, watched)
    assert line is not None
    assert f"(t = {t:.1f})" in line
    assert overfitting(outer, watched, threshold=t + 0.1) is None
    assert overfitting(watched, outer) is None
    assert overfitting(outer, torch.ones(1)) is None
    assert overfitting(outer, outer) is None
