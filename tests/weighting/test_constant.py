"""Weights that stay."""

import math

import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.weighting import Constant, Equal, MainOnly
from weighting.loop import Task


def weights_of(weighting):
    weighting.prepare(5, 0, 1)
    return weighting.weights(Task().step()).tolist()


def test_given_weights_are_returned():
    assert weights_of(Constant([1.0, 0.5, 0.0, -2.0, 3.0])) == [1.0, 0.5, 0.0, -2.0, 3.0]
    assert weights_of(Constant(torch.ones(5, requires_grad=True))) == [1.0] * 5


def test_main_only_and_equal():
    assert weights_of(MainOnly()) == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert weights_of(Equal()) == [1.0] * 5
    assert weights_of(Equal(scale=0.25)) == [1.0, 0.25, 0.25, 0.25, 0.25]


def test_normalise_is_for_the_training_loop():
    assert Equal(normalise=True).normalise
    assert Constant([1.0], normalise=True).normalise
    assert not MainOnly().normalise


@pytest.mark.parametrize("given", [1.0, [], [[1.0]], [1.0, math.nan], [math.inf]])
def test_weights_must_be_finite_numbers_in_a_row(given):
    with pytest.raises(InputError, match="one finite number for each loss"):
        Constant(given)


def test_there_must_be_a_weight_for_each_loss():
    with pytest.raises(InputError, match="each of the 5 losses"):
        Constant([1.0, 2.0]).prepare(5, 0, 1)


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf])
def test_the_scale_is_checked(scale):
    with pytest.raises(InputError, match="`scale`"):
        Equal(scale=scale)
