"""The protocol's checks."""

import subprocess
import sys

import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.weighting import Equal, MainOnly, Step
from weighting.loop import Task


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 10), "`num_losses`"),
        ((3, 3, 10), "`main`"),
        ((3, -1, 10), "`main`"),
        ((3, 0, 0), "`steps`"),
    ],
)
def test_preparing_checks_its_arguments_and_then_changes_nothing(arguments, message):
    weighting = Equal()
    with pytest.raises(InputError, match=message):
        weighting.prepare(*arguments)
    assert weighting.num_losses == 0


def test_a_weighting_must_be_prepared():
    with pytest.raises(InputError, match=r"Call `prepare\(num_losses, main, steps\)`"):
        Equal().weights(Task().step())


@pytest.mark.parametrize(("num_losses", "main"), [(4, 0), (6, 0), (5, 1)])
def test_a_step_must_be_of_the_run_that_was_prepared_for(num_losses, main):
    weighting = MainOnly()
    weighting.prepare(num_losses, main, 10)
    with pytest.raises(InputError, match=f"prepared for {num_losses} losses, of which {main}"):
        weighting.weights(Task().step())


def test_the_package_needs_torch_only():
    foreign = ("torchjd", "cvxpy", "scipy", "sklearn", "matplotlib")
    code = f"import sys, auxilearn.weighting; print([m for m in {foreign!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_step_is_passed_by_position():
    w = torch.ones(2, requires_grad=True)
    weighting = Equal()
    weighting.prepare(2, 0, 1)
    weighting.after(Step(w * w, (w,), 0, 0, 0.1), lambda: w)
