"""The experiments on given auxiliary losses: which data, which sources, which methods."""

from collections.abc import Callable

from auxilearn.experiments.given._annotators import Annotators
from auxilearn.experiments.given._attributes import Attributes
from auxilearn.experiments.given._combiners import deep, perceptron
from auxilearn.experiments.given._harmful import Harmful
from auxilearn.experiments.given._label_noise import LabelNoise
from auxilearn.experiments.given._methods import OURS, Method, learned, methods, oracle
from auxilearn.experiments.given._regression import Regression
from auxilearn.experiments.given._useless import Useless
from auxilearn.experiments.harness._experiment import AuxiliaryTask, Cell, Experiment
from auxilearn.training import CrossFit, HeldOut, Learned, Training

TRAINING = Training(steps=500)
GRADIENTS = ("GradNorm", "GCS", "GCS, weighted", "OL-AUX", "MGDA", "PCGrad", "CAGrad", "Nash-MTL", "IMTL-G", "Auto-λ",
             "AuxiNash")  # fmt: skip
"""Methods that take a gradient of every loss at every step: with a hundred losses they cost fifty plain runs."""


def cell(
    name: str,
    task: Callable[[int], AuxiliaryTask],
    *,
    unit: str = "accuracy, %",
    without: tuple[str, ...] = (),
    more: dict[str, Method] | None = None,
    with_oracle: bool = True,
) -> Cell:
    """Compare all methods on a task.

    Args:
        name: The cell's name.
        task: The task of a seed.
        unit: The unit of the score.
        without: Methods that are left out.
        more: Methods besides.
        with_oracle: Whether it is known which losses help.

    Returns:
        The cell.
    """
    found = {key: m for key, m in methods(TRAINING, with_oracle=with_oracle).items() if key not in without}
    return Cell(name, unit, task, {**found, **(more or {})})


CROSS: dict[str, Method] = {"ours, cross-fitted": learned(Learned(outer=CrossFit()), TRAINING)}
DEPTHS: dict[str, Method] = {
    **CROSS,
    "ours, deep linear": learned(Learned(combiner=deep), TRAINING),
    "ours, nonlinear": learned(Learned(combiner=perceptron), TRAINING),
}
SIZES: dict[str, Method] = {
    **{f"ours, cross-fitted, {k} folds": learned(Learned(outer=CrossFit(k)), TRAINING) for k in (2, 5, 10)},
    **{
        f"ours, {share:.0%} held out, {'refit' if refit else 'no refit'}": learned(
            Learned(outer=HeldOut(share), refit=refit, gate=False), TRAINING
        )
        for share in (0.2, 0.5)
        for refit in (True, False)
    },
    "ours, without the gate": learned(Learned(gate=False), TRAINING),
}


def table_cell(name: str, task: Regression) -> Cell:
    """Compare the methods on a table, of which nobody knows which targets help.

    Args:
        name: The cell's name.
        task: The task of a seed.

    Returns:
        The cell.
    """
    return cell(name, task, unit="R², %", without=GRADIENTS, more=CROSS, with_oracle=False)


ANNOTATORS = Experiment(
    "annotators",
    "Good, random and adversarial annotators",
    "Fifty images of digits have a label; 3 good, 8 random and 3 adversarial simulated annotators label 1,000 others "
    "for the same head, and nobody says who is who. Images are real. The last oracle gives guesses a tenth of the "
    "weight of good answers: they smooth those, which helps, and rules that lower weights slowly profit from it "
    "unknowingly.",
    (
        cell(
            "digits",
            Annotators("digits"),
            more={
                **DEPTHS,
                "oracle, 3": oracle(TRAINING, helpful=3.0),
                "oracle, 3, and guesses at 0.3": oracle(TRAINING, helpful=3.0, guesses=0.3),
            },
        ),
        cell("MNIST-5k", Annotators("mnist"), without=GRADIENTS, more=CROSS),
    ),
    OURS,
)

ATTRIBUTES = Experiment(
    "attributes",
    "Few labels and ten attributes",
    "A stand-in for birds with attributes: 2, 5 or 10 images of each digit have a label, and ten attributes of the "
    "digit are known for 1,000 other images. Attributes are functions of the class, so they carry information about "
    "labels that no method sees; the birds' do, too. The rows 'ours, …' are the paper's ablations: the size of the "
    "auxiliary set, and the depth of the combiner.",
    (
        cell("digits, 2 labels a class", Attributes("digits", per_class=2), without=GRADIENTS),
        cell("digits, 5 labels a class", Attributes("digits"), more={**DEPTHS, **SIZES}),
        cell("digits, 10 labels a class", Attributes("digits", per_class=10), without=GRADIENTS),
        cell("MNIST-5k, 5 labels a class", Attributes("mnist"), without=GRADIENTS),
    ),
    OURS,
)

# Of the gradient methods, those that did best at the strongest harm while this was built; all are in that cell.
_WEAKER = tuple(name for name in (*GRADIENTS, "DWA", "ForkMerge") if name not in ("GCS", "GCS, weighted", "MGDA"))

HARMFUL = Experiment(
    "harmful",
    "Helpful and harmful losses mixed",
    "Ten attributes that help, ten coin flips, ten regressions on noise in growing units, and a growing number of "
    "annotators who mislead the main head. Images are real; the harm is simulated.",
    tuple(
        cell(f"digits, {harm} harm", Harmful("digits", harm), without=() if harm == "strong" else _WEAKER)
        for harm in ("weak", "medium", "strong")
    ),
    OURS,
)

USELESS = Experiment(
    "useless",
    "Only useless losses",
    "Random annotators, coin flips and regressions on noise: nothing helps, and training on the main loss alone is the "
    "best that can be done.",
    (cell("digits", Useless("digits"), without=(*GRADIENTS, "random search", "oracle")),),
    OURS,
)

LABEL_NOISE = Experiment(
    "label-noise",
    "A hundred sources, each noisier than the one before",
    "A hundred sources label 1,000 images of digits, with noise that grows with their number, for the main head or "
    "with a head each. The learned weights must fall with the noise. Methods that take a gradient of every loss are "
    "left out: with a hundred losses they cost fifty plain runs; with a head each, so do the two searches.",
    (
        cell("digits, the main head", LabelNoise("digits", heads="main"), without=GRADIENTS, more=DEPTHS),
        cell(
            "digits, a head each",
            LabelNoise("digits", heads="own"),
            without=(*GRADIENTS, "tuned scale", "random search"),
        ),
    ),
    OURS,
)

REGRESSION = Experiment(
    "regression",
    "One target of a table, the others as auxiliaries",
    "Everything is real. The main target is known for 200 rows of a table, the other targets for 500 more: flares of "
    "an active region of the sun in a day, where there is hardly anything to learn, and the energy gap of small "
    "molecules (QM9, by the extra `molecules`), where the network learns its 200 labels by heart, so that their "
    "training loss says little about the other targets.",
    (
        table_cell("solar flare, C-class", Regression("solar flare", "c-class-flares")),
        table_cell("QM9, energy gap", Regression("qm9", "HOMO-LUMO gap")),
    ),
    OURS,
)
