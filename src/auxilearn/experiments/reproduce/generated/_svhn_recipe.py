"""SVHN with 5 % of the labels: the hyperparameters of both budgets, with their sources.

AuxiLearn's published code has only the pets. What is not known of this experiment is taken from MAXL's code for
CIFAR-100, with which the paper compares, or from AuxiLearn's for pets; the rest is our choice.
"""

from auxilearn.experiments.reproduce._recipe import recipe
from auxilearn.experiments.reproduce.generated._few_settings import FewSettings

SVHN_RECIPE = recipe(
    FewSettings,
    epochs=(200, 20, "MAXL's code"),
    batch=(100, 20, "MAXL's code"),
    optimizer=("sgd", "adam", "MAXL's code; the momentum, 0.9, is AuxiLearn's for pets"),
    lr=(1e-2, 3e-3, "MAXL's code"),
    weight_decay=(5e-4, 5e-4, "ours: MAXL's code has none for the student, and 5e-4 for its generator"),
    schedule=("cosine", "cosine", "AuxiLearn's code for pets; MAXL halves the rate every 50 epochs"),
    looks=(20, 3, "ours: points of the curve"),
    seeds=(3, 1, "ours: the paper states a standard error, but we found no number of runs"),
    terms=(3, 3, "AuxiLearn's code for pets"),
    alpha=(1e-2, 3e-3, "ours: the students' learning rate, as AuxiLearn's code has it for pets"),
    every=(30, 5, "AuxiLearn's code for pets"),
    outer_lr=(1e-3, 1e-3, "AuxiLearn's code for pets"),
    outer_decay=(5e-3, 5e-3, "AuxiLearn's code for pets"),
    clip=(50.0, 50.0, "AuxiLearn's code for pets"),
    held_out=(0.0084, 0.1, "ours: AuxiLearn's share for pets"),
    outer_batch=(100, 20, "ours: as the batch, as AuxiLearn's code has it for pets"),
    subclasses=(5, 5, "MAXL's and AuxiLearn's code"),
    aux_scale=(0.25, 0.25, "AuxiLearn's code for pets"),
    maxl_lr=(1e-3, 1e-3, "MAXL's code"),
    maxl_decay=(5e-4, 5e-4, "MAXL's code"),
    maxl_penalty=(0.2, 0.2, "MAXL's code"),
    pool_batch=(200, 40, "ours: as for CIFAR"),
    labelled=(0.05, 0.06, "paper"),
    validation=(0.0, 0.0, "ours: no label is spent on choosing; the schedule ends at 0, and the last weights are kept"),
    size=(32, 32, "the data"),
    side=(32, 32, "the data"),
    network=(
        "four convolutions",
        "four small convolutions",
        "ours: the network of few-shot learning; no code has one",
    ),
)
"""Its hyperparameters."""
