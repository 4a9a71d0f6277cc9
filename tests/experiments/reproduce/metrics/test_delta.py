"""Δ against a hand computation."""

import math

import pytest

from auxilearn.errors import InputError
from auxilearn.experiments.reproduce._reproduction import Metric
from auxilearn.experiments.reproduce.metrics import delta

METRICS = (Metric("mIoU"), Metric("error", "m", "lower"), Metric("angle", "°", "lower"))
SINGLE = {"mIoU": 38.30, "error": 0.6754, "angle": 25.01}


def test_it_is_the_mean_relative_change():
    row = {"mIoU": 39.39, "error": 0.5696, "angle": 28.15}
    wanted = 100 * ((39.39 - 38.30) / 38.30 - (0.5696 - 0.6754) / 0.6754 - (28.15 - 25.01) / 25.01) / 3
    assert delta(row, SINGLE, METRICS) == pytest.approx(wanted)
    assert delta(SINGLE, SINGLE, METRICS) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_better_is_positive(metric):
    factor = 1.1 if metric.better == "higher" else 0.9
    assert delta(SINGLE | {metric.name: factor * SINGLE[metric.name]}, SINGLE, METRICS) == pytest.approx(10 / 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_was_not_measured_is_refused(bad):
    for row, single in (({"mIoU": bad}, SINGLE), (SINGLE, {"mIoU": bad}), ({}, SINGLE), (SINGLE, {"mIoU": 0.0})):
        with pytest.raises(InputError, match="`mIoU` is"):
            delta(row, single, METRICS[:1])
    with pytest.raises(InputError, match="There is none"):
        delta(SINGLE, SINGLE, ())
