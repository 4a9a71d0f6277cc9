"""What a user sees of an outcome."""

from auxilearn.training import Fit
from training.tiny import net


def test_an_outcome_is_printed_as_a_table() -> None:
    fit = Fit(
        net(), {"main": 1.0, "helpful": 2.345, "b": 0.0}, usefulness={"helpful": 3.21, "b": -0.5}, notes=("Note.",)
    )
    assert str(fit).splitlines() == [
        "loss     weight  usefulness (t)",
        "main       1.00",
        "helpful    2.35             3.2",
        "b          0.00            -0.5",
        "t over folds: above 2 a loss helped the held-out main loss, below −2 it harmed it.",
        "Note.",
    ]
    assert str(Fit(net(), {"main": 1.0})).splitlines() == ["loss  weight", "main    1.00"]
