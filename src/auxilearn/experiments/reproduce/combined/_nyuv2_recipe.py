"""The hyperparameters of NYUv2."""

from auxilearn.experiments.reproduce._recipe import recipe
from auxilearn.experiments.reproduce.combined._dense_task import DenseSettings

_CODE, _CONV = "original code", "original code, trainer_cnn.py"

NYUV2_RECIPE = recipe(
    DenseSettings,
    # name = (paper budget, smoke budget, source of the former)
    network=("segnet", "segnet", "paper: SegNet with split heads"),
    widths=((64, 128, 256, 512, 1024), (8, 16), _CODE),
    shrink=(1, 12, "original code: MTAN's 288 × 384"),
    validation=(0.1, 0.25, "paper; drawn anew for each seed, where the original code has one fixed list of 79"),
    epochs=(200, 12, _CODE),
    batch=(8, 6, _CODE),
    optimizer=("adam", "adam", _CODE),
    lr=(1e-4, 1e-2, _CODE),
    weight_decay=(0.0, 0.0, _CODE),
    schedule=("halved", "halved", "original code: times 0.5 after epoch 100"),
    looks=(200, 2, "original code: after every epoch"),
    seeds=(3, 1, "AuxiNash, Shamsian et al. 2023; how many the paper has is not known here"),
    terms=(3, 3, _CODE),
    alpha=(1e-4, 1e-4, _CODE),
    every=(50, 6, _CODE),
    outer_lr=(1e-3, 1e-3, _CODE),
    outer_decay=(1e-4, 1e-4, _CODE),
    clip=(25.0, 25.0, _CODE),
    conv_outer_lr=(1e-4, 1e-4, _CONV),
    conv_outer_decay=(1e-5, 1e-5, _CONV),
    conv_clip=(100.0, 100.0, _CONV),
    held_out=(0.025, 0.25, "original code: of what is left after validation"),
    outer_batch=(2, 2, _CODE),
)
