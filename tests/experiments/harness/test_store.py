"""Results are there whole or not at all, and are known to be stale when the code or torch changes."""

import json
import math
from pathlib import Path

import pytest
import torch

import tiny_experiment
from auxilearn.errors import InputError
from auxilearn.experiments.harness import _store
from auxilearn.experiments.harness._experiment import Result
from auxilearn.experiments.harness._store import Job, Store, checked

JOB = Job(tiny_experiment.PLACE, "first, 5 labels", "equal, raw", 0)
RESULT = Result(81.5, 2.0, {"weights": [1.0, 0.5], "chosen": "equal × 3"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def test_a_result_comes_back_as_it_was(store: Store) -> None:
    assert store.get(JOB) is None
    store.put(JOB, RESULT)
    assert store.get(JOB) == RESULT
    assert store.get(JOB._replace(seed=1)) is None
    assert store.file(JOB).parent.name == "equal, raw"


def test_results_of_other_code_or_another_torch_are_stale(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(JOB, RESULT)
    with monkeypatch.context() as patch:
        patch.setattr(_store, "code_of", lambda module: "other")
        assert store.get(JOB) is None
        assert store.seconds(JOB) == 2.0  # how long it took is still worth knowing
        trusting = Store(store.folder, trust=True)
        assert trusting.get(JOB) == RESULT
        assert trusting.stale(JOB.experiment, trusting.table(JOB.experiment, tiny_experiment.EXPERIMENT)) == 1
    assert Store(store.folder).stale(JOB.experiment, store.table(JOB.experiment, tiny_experiment.EXPERIMENT)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.1")
        assert store.get(JOB) is None
        store.put(JOB, RESULT)
        assert store.get(JOB) == RESULT
    assert store.get(JOB) is None
    assert len(list(store.folder.rglob("*.json"))) == 1


def test_a_write_that_fails_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        store.put(JOB, RESULT)
    assert not [path for path in store.folder.rglob("*") if path.is_file()]


def test_a_broken_file_is_as_good_as_none(store: Store) -> None:
    store.put(JOB, RESULT)
    for text in ('{"score": 8', "[]", "{}"):
        store.file(JOB).write_text(text)
        assert store.get(JOB) is None
        assert store.seconds(JOB) is None


def test_times_are_guessed_from_other_seeds(store: Store) -> None:
    assert store.seconds(JOB) is None
    store.put(JOB, RESULT)
    store.put(JOB._replace(seed=1), Result(80.0, 4.0, {}))
    assert store.seconds(JOB._replace(seed=7)) == 3.0


def test_the_table_leaves_out_tuning_seeds_unless_asked(store: Store) -> None:
    store.put(JOB, RESULT)
    store.put(JOB._replace(seed=100), Result(99.0, 1.0, {}))
    assert store.table(JOB.experiment, tiny_experiment.EXPERIMENT) == {JOB.cell: {JOB.method: {0: RESULT}}}
    asked = store.table(JOB.experiment, tiny_experiment.EXPERIMENT, [100, 101])
    assert asked[JOB.cell][JOB.method].keys() == {100}


def test_names_become_safe_files(store: Store) -> None:
    for name in ("a/b", "..", "×", "a:b"):
        job = JOB._replace(cell=name)
        store.put(job, RESULT)
        assert store.get(job) == RESULT
        assert store.file(job).resolve().is_relative_to(store.folder.resolve())
        assert len(store.file(job).relative_to(store.folder).parts) == 4


def test_an_unwritable_folder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Choose another with --out"):
        Store(tmp_path / "file").refuse_unwritable()
    Store(tmp_path / "new").refuse_unwritable()
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("found", "finding"),
    [
        (0.5, "returned a `float`"),
        (Result(math.nan, 1.0, {}), "`score` is nan"),
        (Result(1.0, math.inf, {}), "`seconds` is inf"),
        (Result(torch.tensor(1.0), 1.0, {}), "`score` is tensor"),  # type: ignore[arg-type]
        (Result(1.0, 1.0, {"weights": torch.ones(2)}), "Tensor is not JSON"),
    ],
)
def test_what_cannot_be_kept_is_refused(found: object, finding: str) -> None:
    with pytest.raises(InputError, match=finding):
        checked(found)
    assert checked(RESULT) is RESULT


def test_a_file_says_what_it_is(store: Store) -> None:
    store.put(JOB, RESULT)
    entry = json.loads(store.file(JOB).read_text())
    assert (entry["method"], entry["seed"], entry["torch"]) == (JOB.method, 0, torch.__version__)
