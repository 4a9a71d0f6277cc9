"""A recipe has one line for each hyperparameter, with a source."""

from typing import Any

import pytest
from torch import nn

from auxilearn.errors import InputError
from auxilearn.experiments.reproduce._inner import optimizer_of, schedule_of, steps_of, training_of
from auxilearn.experiments.reproduce._recipe import Inner, recipe

LINES: dict[str, tuple[Any, Any, str]] = {
    "epochs": (200, 2, "paper"),
    "batch": (8, 4, "paper"),
    "optimizer": ("sgd", "adam", "paper"),
    "lr": (0.1, 0.01, "paper"),
    "weight_decay": (5e-3, 0.0, "paper"),
    "schedule": ("halved", "cosine", "paper"),
    "looks": (10, 1, "ours"),
    "seeds": (4, 1, "paper"),
}


def test_budgets_have_their_values_and_all_lines_are_listed() -> None:
    found = recipe(Inner, **LINES)
    assert found.of("paper").epochs == 200
    assert found.of("smoke").epochs == 2
    assert [name for name, _, _ in found.rows("paper")] == list(LINES)
    assert found.rows("smoke")[2] == ("optimizer", "adam", "paper")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": None}, "differs by epochs"),
        ({"rate": (1, 1, "ours")}, "differs by rate"),
        ({"lr": (0.1, 0.1, " ")}, "`lr` has no source"),
        ({"lr": (0.0, 0.1, "paper")}, "`lr` must be"),
        ({"optimizer": ("lion", "adam", "paper")}, "`optimizer` must be"),
    ],
)
def test_a_recipe_that_lacks_something_is_refused(changed: dict[str, Any], message: str) -> None:
    lines = {name: line for name, line in {**LINES, **changed}.items() if line is not None}
    with pytest.raises(InputError, match=message):
        recipe(Inner, **lines)


def test_a_change_has_the_kind_of_what_it_changes() -> None:
    found = recipe(Inner, **LINES)
    changed = found.of("paper", {"epochs": "3", "lr": "1", "optimizer": "adam"})
    assert (changed.epochs, changed.lr, changed.optimizer) == (3, 1.0, "adam")
    assert isinstance(changed.lr, float)
    assert found.paper.epochs == 200
    assert found.rows("paper", {"epochs": "3"})[0] == ("epochs", "3", "changed by --set")
    for wrong, message in [
        ({"epoch": "3"}, r"There is no `epoch`\. There are: epochs, batch"),
        ({"epochs": "3.5"}, "`epochs` must be a `int`, as 200 is"),
        ({"epochs": "many"}, "It was set to 'many'"),
        ({"optimizer": "lion"}, "`optimizer` must be"),
    ]:
        with pytest.raises(InputError, match=message):
            found.of("paper", wrong)


def test_the_inner_training_is_what_the_recipe_says() -> None:
    inner = recipe(Inner, **LINES).paper
    assert steps_of(inner, 81) == 200 * 10
    assert steps_of(inner, 3) == 200
    training = training_of(inner, 81, seed=4)
    assert (training.steps, training.batch_size, training.seed) == (2000, 8, 4)
    layer = nn.Linear(2, 2)
    optimizer = optimizer_of(inner, layer.parameters())
    assert optimizer.defaults["momentum"] == 0.9
    assert optimizer.defaults["weight_decay"] == 5e-3
    schedule = schedule_of(inner, optimizer, 10)
    assert schedule is not None
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [0.1] * 5 + [0.05] * 5
