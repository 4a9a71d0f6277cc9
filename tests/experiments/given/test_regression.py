"""The other targets of a table as auxiliary tasks: what is known where, and the score."""

import pickle
from importlib.util import find_spec

import pytest
import torch

from auxilearn.data import solar_flare
from auxilearn.errors import InputError
from auxilearn.experiments.given._regression import Determination, Regression, regression_losses

FLARES = Regression("solar flare", "c-class-flares", labels=60, pool=300)


def test_targets_are_known_where_they_should_be() -> None:
    task = FLARES(0)
    problem = task.problem
    x, y, labelled, targets = problem.data
    assert torch.equal(problem.labelled, labelled.nonzero().squeeze(1))
    assert (len(x), x.shape[1], targets.shape[1]) == (360, 23, 2)
    assert not y[~labelled].any()  # nothing about the main target of the pool
    assert not targets[labelled].any()
    assert y[labelled].mean().abs() < 1e-5
    assert y[labelled].std() == pytest.approx(1.0, abs=1e-4)
    assert problem.names == ("c-class-flares", "m-class-flares", "x-class-flares")
    assert task.helpful is None


def test_losses_are_squared_errors() -> None:
    torch.manual_seed(0)
    z, y, targets = torch.randn(5, 3), torch.randn(5), torch.randn(5, 2)
    labelled = torch.tensor([True, True, False, False, False])
    values, present = regression_losses(lambda x: x, (z, y, labelled, targets))  # type: ignore[arg-type]
    for i in range(5):
        for k in range(3):
            known = bool(labelled[i]) == (k == 0)
            truth = y[i] if k == 0 else targets[i, k - 1]
            assert bool(present[i, k]) == known
            assert float(values[i, k]) == pytest.approx(float((z[i, k] - truth) ** 2) if known else 0.0, rel=1e-5)


def test_rows_are_disjoint_and_a_function_of_the_seed() -> None:
    first, again, other = FLARES(0), FLARES(0), FLARES(1)
    assert all(torch.equal(a, b) for a, b in zip(first.problem.data, again.problem.data, strict=True))
    assert not torch.equal(first.problem.data[0], other.problem.data[0])
    assert len(first.problem.data[0]) + len(first.score.features) == len(solar_flare().features)  # type: ignore[attr-defined]
    # What is predicted is the logarithm of a count, in units of the labelled rows.
    rows = torch.randperm(1066, generator=torch.Generator().manual_seed(0))
    numbers = solar_flare().targets[:, 0].log1p()
    unit = (numbers - numbers[rows[:60]].mean()) / numbers[rows[:60]].std()
    torch.testing.assert_close(first.score.truth, unit[rows[360:]])  # type: ignore[attr-defined]
    torch.testing.assert_close(first.problem.data[1][:60], unit[rows[:60]])


def test_the_score_is_the_share_of_variance_explained() -> None:
    x = torch.arange(5.0)[:, None]
    score = Determination(x, x[:, 0] ** 2)
    assert score(lambda x: x**2) == 100  # type: ignore[arg-type]
    assert score(lambda x: torch.full_like(x, 6.0)) == 0  # type: ignore[arg-type]
    assert score(lambda x: 0 * x) == pytest.approx(100 * (1 - 354 / 174), rel=1e-5)  # type: ignore[arg-type]


def test_tasks_can_be_sent_to_another_process() -> None:
    task = pickle.loads(pickle.dumps(FLARES))(0)
    copy = pickle.loads(pickle.dumps(task))
    assert copy.score(copy.problem.new_model()) == task.score(task.problem.new_model())


@pytest.mark.skipif(find_spec("qm9pack") is None, reason="needs the extra molecules")
def test_molecules_have_twelve_targets() -> None:
    task = Regression("qm9", "HOMO-LUMO gap", labels=50, pool=100)(0)
    assert len(task.kinds) == 12
    values, present = task.problem.losses(task.problem.new_model(), task.problem.data)
    assert values.shape == (150, 12)
    assert values.isfinite().all()
    assert present.sum(0).tolist() == [50] + 11 * [100]
    assert task.problem.data[0].abs().max() <= 5


def test_bad_settings_are_told() -> None:
    with pytest.raises(InputError, match="`target` must be one of 'c-class-flares'"):
        Regression("solar flare", "flares")(0)
    with pytest.raises(InputError, match="There are 1066 rows"):
        Regression("solar flare", "c-class-flares", pool=1000)(0)
    with pytest.raises(InputError, match="`dataset` must be one of"):
        Regression("sun", "c-class-flares")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`labels` must be an integer of at least 2"):
        Regression("solar flare", "c-class-flares", labels=0)
