"""Oxford-IIIT Pet with 30 labels a class: the hyperparameters of both budgets, with their sources.

From AuxiLearn's own code for this experiment, `experiments/oxford_pet`, but where it says otherwise.
"""

from auxilearn.experiments.reproduce._recipe import recipe
from auxilearn.experiments.reproduce.generated._few_settings import FewSettings

PET_RECIPE = recipe(
    FewSettings,
    epochs=(150, 1, "AuxiLearn's code"),
    batch=(16, 16, "AuxiLearn's code"),
    optimizer=("sgd", "adam", "AuxiLearn's code; with momentum 0.9"),
    lr=(1e-3, 1e-3, "AuxiLearn's code"),
    weight_decay=(5e-3, 5e-3, "AuxiLearn's code"),
    schedule=("cosine", "cosine", "AuxiLearn's code"),
    looks=(150, 3, "AuxiLearn's code: after every epoch"),
    seeds=(3, 1, "ours: the paper states a standard error, but we found no number of runs"),
    terms=(3, 3, "AuxiLearn's code"),
    alpha=(1e-3, 1e-3, "AuxiLearn's code: the students' learning rate"),
    every=(30, 5, "AuxiLearn's code"),
    outer_lr=(1e-3, 1e-3, "AuxiLearn's code"),
    outer_decay=(5e-3, 5e-3, "AuxiLearn's code"),
    clip=(50.0, 50.0, "AuxiLearn's code"),
    held_out=(0.0084, 0.05, "AuxiLearn's code, 9 images"),
    outer_batch=(16, 16, "AuxiLearn's code"),
    subclasses=(5, 2, "MAXL's and AuxiLearn's code"),
    aux_scale=(0.25, 0.25, "AuxiLearn's code"),
    maxl_lr=(1e-3, 1e-3, "MAXL's code"),
    maxl_decay=(5e-4, 5e-4, "MAXL's code"),
    maxl_penalty=(0.2, 0.2, "MAXL's code"),
    pool_batch=(32, 16, "ours: twice the batch"),
    labelled=(30, 4, "paper"),
    validation=(0.3, 0.25, "AuxiLearn's code"),
    size=(256, 36, "AuxiLearn's code"),
    side=(224, 32, "AuxiLearn's code"),
    network=("ResNet-18", "ResNet-18", "AuxiLearn's code; from scratch"),
)
"""Its hyperparameters."""
