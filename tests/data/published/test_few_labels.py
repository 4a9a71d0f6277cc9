from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auxilearn.data.published import draw_few, kept_split, labelled_rows
from auxilearn.errors import InputError


def draw(classes: Tensor, seed: int = 0, **options: Any) -> dict[str, Tensor]:
    return draw_few(classes, generator=torch.Generator().manual_seed(seed), **options)


def per_class(classes: Tensor, rows: Tensor) -> Counter[int]:
    return Counter(classes[rows].tolist())


def test_pets_published_split() -> None:
    # About 100 images a class; the original code keeps 30 %, takes 30 a class of the rest, and holds back 9.
    classes = torch.arange(3680) % 37
    parts = draw(classes, per_class=30, validation=0.3, held_out=0.0084)
    assert len(parts["validation"]) == 1104
    assert len(parts["train"]) + len(parts["held_out"]) == 30 * 37
    assert len(parts["held_out"]) == 9
    assert max(per_class(classes, parts["held_out"]).values()) == 1
    counts = per_class(classes, parts["validation"])
    assert set(counts.values()) <= {29, 30}


def test_a_share_of_the_labels_follows_the_classes() -> None:
    classes = torch.cat([torch.zeros(700), torch.ones(200), torch.full((100,), 2.0)]).long()
    parts = draw(classes, share=0.05, validation=0.1)
    assert per_class(classes, parts["train"]) == {0: 35, 1: 10, 2: 5}
    assert per_class(classes, parts["validation"]) == {0: 70, 1: 20, 2: 10}
    assert len(parts["pool"]) == 850


def test_small_classes_give_all_that_validation_leaves() -> None:
    classes = torch.tensor([0] * 10 + [1] * 3 + [2])
    parts = draw(classes, per_class=5, validation=0.3)
    left = Counter(classes.tolist())
    left.subtract(per_class(classes, parts["validation"]))
    assert per_class(classes, parts["train"]) == {label: min(5, rows) for label, rows in left.items()}
    assert left[2] == 1  # validation never takes the last one


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    shots=st.integers(1, 6),
    validation=st.floats(0, 0.6),
    held_out=st.floats(0, 0.5),
    seed=st.integers(0, 99),
)
def test_parts_are_all_rows_once(sizes: list[int], shots: int, validation: float, held_out: float, seed: int) -> None:
    classes = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    try:
        parts = draw(classes, seed, per_class=shots, validation=validation, held_out=held_out)
    except InputError:  # everything was asked for by the other parts
        return
    assert sorted(torch.cat(list(parts.values())).tolist()) == list(range(sum(sizes)))
    labelled, held = labelled_rows(parts)
    assert torch.equal(labelled[held], parts["held_out"])
    left = Counter(classes.tolist())
    left.subtract(per_class(classes, parts["validation"]))
    assert per_class(classes, labelled) == Counter({label: min(shots, rows) for label, rows in left.items()})
    for rows in parts.values():
        assert torch.equal(rows, rows.sort().values)


def test_a_seed_gives_the_same_rows_and_fewer_shots_are_among_more() -> None:
    classes = torch.arange(300) % 10
    five, again, other = (draw(classes, seed, per_class=5, validation=0.1, held_out=0.1) for seed in (3, 3, 4))
    assert all(torch.equal(five[name], again[name]) for name in five)
    assert not torch.equal(five["train"], other["train"])
    ten = draw(classes, 3, per_class=10, validation=0.1, held_out=0.1)
    assert torch.equal(ten["validation"], five["validation"])
    assert set(labelled_rows(five)[0].tolist()) < set(labelled_rows(ten)[0].tolist())


def test_the_global_random_state_is_not_touched() -> None:
    before = torch.get_rng_state()
    draw(torch.arange(50) % 5, per_class=2, validation=0.2, held_out=0.3)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_kept_split_is_read_again(tmp_path: Path) -> None:
    classes = torch.arange(60) % 6
    file = tmp_path / "splits" / "seed-1.json"
    first = kept_split(file, lambda: draw(classes, 1, per_class=3, validation=0.1, held_out=0.2), labels=classes)
    second = kept_split(file, dict, labels=classes)
    assert all(torch.equal(first[name], second[name]) for name in ("train", "held_out", "validation", "pool"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either per class or as a share"),
        ({"per_class": 1, "share": 0.1}, "either per class or as a share"),
        ({"per_class": 0}, "`per_class` must be an integer of at least 1"),
        ({"share": 1.5}, "`share` must be a share"),
        ({"share": 0.5, "validation": float("nan")}, "`validation` must be finite"),
        ({"share": 0.001}, "A row must be left to train on"),
        ({"per_class": 1, "held_out": 1.0}, "A row must be left to train on"),
    ],
)
def test_bad_draws_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw(torch.arange(20) % 4, **options)
