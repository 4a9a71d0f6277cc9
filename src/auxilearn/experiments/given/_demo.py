"""The experiment of ``auxilearn demo``: some losses help, some do harm; and then, none helps."""

from auxilearn.experiments.given._image_task import Dataset
from auxilearn.experiments.given._methods import EQUAL, EQUAL_RAW, FAST, MAIN_ONLY, OURS, Method, methods
from auxilearn.experiments.given._mixed import Mixed
from auxilearn.experiments.given._useless import Useless
from auxilearn.experiments.harness._experiment import Cell, Experiment
from auxilearn.training import Training

# The basic ones, two cheap weightings of the literature, and the original; others cost more than a demo has time for.
RIVALS = (MAIN_ONLY, EQUAL_RAW, EQUAL, "uncertainty", "FAMO", "AuxiLearn 1.0")


def demo(training: Training, *, pool: int = 1000) -> Experiment:
    """Build the demo.

    Args:
        training: The inner training.
        pool: Images with auxiliary labels.

    Returns:
        The experiment: two cells for each data set.
    """
    known = methods(training)

    def chosen(*names: str) -> dict[str, Method]:
        return {name: known[name] for name in names}

    names: dict[Dataset, str] = {"mnist": "MNIST-5k", "digits": "digits"}
    cells: list[Cell] = []
    for dataset, name in names.items():
        mixed, useless = Mixed(dataset, pool=pool), Useless(dataset, bits=6, pool=pool)
        some, none = chosen(*RIVALS, "random search", FAST, OURS, "oracle"), chosen(*RIVALS, FAST, OURS)
        cells.append(Cell(f"{name}, useful, useless and harmful losses", "accuracy, %", mixed, some))
        cells.append(Cell(f"{name}, useless losses only", "accuracy, %", useless, none))
    return Experiment(
        "demo",
        "The demo",
        "Fifty images have a label, and 1,000 others have auxiliary labels of unknown use: of 3 good, 6 random and 3 "
        "adversarial annotators of the main task, of 6 attributes of the digit, and of 6 badly scaled regressions on "
        "noise; or, in the other cell, of nothing but random annotators, coin flips and noise. Images are real.",
        tuple(cells),
        OURS,
    )


DEMO = demo(Training(steps=500))
