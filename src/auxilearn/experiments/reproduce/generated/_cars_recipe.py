"""Stanford Cars with 30 labels a class: the hyperparameters of both budgets, with their sources.

AuxiLearn's published code has only the pets; what is not known of this experiment is taken from there.
"""

from auxilearn.experiments.reproduce._recipe import recipe
from auxilearn.experiments.reproduce.generated._few_settings import FewSettings

CARS_RECIPE = recipe(
    FewSettings,
    epochs=(150, 2, "ours: AuxiLearn's code for pets"),
    batch=(16, 16, "ours: AuxiLearn's code for pets"),
    optimizer=("sgd", "adam", "ours: AuxiLearn's code for pets; with momentum 0.9"),
    lr=(1e-3, 3e-3, "ours: AuxiLearn's code for pets"),
    weight_decay=(5e-3, 5e-3, "ours: AuxiLearn's code for pets"),
    schedule=("cosine", "cosine", "ours: AuxiLearn's code for pets"),
    looks=(150, 3, "ours: AuxiLearn's code for pets: after every epoch"),
    seeds=(3, 1, "ours: the paper states a standard error, but we found no number of runs"),
    terms=(3, 3, "AuxiLearn's code for pets"),
    alpha=(1e-3, 3e-3, "ours: AuxiLearn's code for pets: the students' learning rate"),
    every=(30, 5, "AuxiLearn's code for pets"),
    outer_lr=(1e-3, 1e-3, "AuxiLearn's code for pets"),
    outer_decay=(5e-3, 5e-3, "AuxiLearn's code for pets"),
    clip=(50.0, 50.0, "AuxiLearn's code for pets"),
    held_out=(0.0084, 0.05, "ours: AuxiLearn's code for pets"),
    outer_batch=(16, 16, "ours: AuxiLearn's code for pets"),
    subclasses=(5, 2, "MAXL's and AuxiLearn's code"),
    aux_scale=(0.25, 0.25, "AuxiLearn's code for pets"),
    maxl_lr=(1e-3, 1e-3, "MAXL's code"),
    maxl_decay=(5e-4, 5e-4, "MAXL's code"),
    maxl_penalty=(0.2, 0.2, "MAXL's code"),
    pool_batch=(32, 16, "ours: twice the batch"),
    labelled=(30, 3, "paper"),
    validation=(0.0, 0.0, "ours: no label is spent on choosing; the last weights are kept"),
    size=(256, 36, "ours: AuxiLearn's code for pets"),
    side=(224, 32, "ours: AuxiLearn's code for pets"),
    network=("ResNet-18", "four small convolutions", "ours: AuxiLearn's code for pets; from scratch"),
)
"""Its hyperparameters."""
