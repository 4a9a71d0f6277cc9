"""Metrics of whole test sets: batches only add up, so that their size changes nothing."""

from auxilearn.experiments.reproduce.metrics._delta import delta
from auxilearn.experiments.reproduce.metrics._depth import DepthErrors
from auxilearn.experiments.reproduce.metrics._normals import NormalErrors
from auxilearn.experiments.reproduce.metrics._parts import PartScores, allowed_parts, part_scores, predicted_parts
from auxilearn.experiments.reproduce.metrics._segmentation import Segmentation

__all__ = [
    "DepthErrors",
    "NormalErrors",
    "PartScores",
    "Segmentation",
    "allowed_parts",
    "delta",
    "part_scores",
    "predicted_parts",
]
