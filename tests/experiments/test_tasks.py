"""Simulated labels have the quality that their kind says."""

import torch

from auxilearn.experiments._tasks import Suite, annotate
from auxilearn.experiments.given._labels import attributes

CLASSES = torch.arange(5000) % 10


def test_annotators_are_as_good_as_they_should_be() -> None:
    suite = Suite(good=2, random=2, adversarial=2, accuracy=0.9)
    answers = annotate(CLASSES, suite, seed=0).answers.argmax(1)  # (N, annotators)
    right = (answers == CLASSES[:, None]).float().mean(0).tolist()
    assert all(abs(a - 0.9) < 0.02 for a in right[:2])
    assert all(abs(a - 0.1) < 0.02 for a in right[2:4])
    assert all(a < 0.02 for a in right[4:])
    shift = [float((answers[:, 4 + i] == (CLASSES + 1 + i) % 10).float().mean()) for i in range(2)]
    assert all(abs(a - 0.9) < 0.02 for a in shift)


def test_attributes_are_functions_of_the_class_and_noise_is_not() -> None:
    suite = Suite(attributes=4, bits=3, noise=2, noise_scale=3.0)
    targets = annotate(CLASSES, suite, seed=0)
    assert torch.equal(targets.binary[:, :4], attributes(CLASSES)[:, :4])
    assert targets.binary.shape == (5000, 7)
    assert abs(float(targets.real.std()) - 3.0) < 0.1
    assert targets.answers.shape == (5000, 10, 0)


def test_kinds_and_outputs_count_the_tasks() -> None:
    suite = Suite(good=1, adversarial=2, attributes=1, noise=1)
    assert suite.kinds == ("good", "adversarial", "adversarial", "attribute", "noise")
    assert suite.outputs == 12


def test_the_seven_segments_tell_the_digits_apart() -> None:
    assert len({tuple(row) for row in attributes(torch.arange(10))[:, 3:].tolist()}) == 10
