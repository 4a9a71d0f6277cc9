"""A checkpoint is there whole or not at all, and of the run that asks for it."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.training._checkpoint import Checkpoint, check_folder


def test_a_state_comes_back(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "a" / "b", "key")
    assert checkpoint.load() is None
    assert not (tmp_path / "a").exists()
    state = {"x": torch.arange(3), "y": [1, ("two", None)], "z": {"w": 0.5}}
    checkpoint.save(state)
    found = checkpoint.load()
    assert found is not None
    assert torch.equal(found.pop("x"), state["x"])
    assert found == {"y": [1, ("two", None)], "z": {"w": 0.5}}
    assert [f.name for f in (tmp_path / "a" / "b").iterdir()] == ["checkpoint.pt"]


def test_a_failing_save_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path, "key")
    checkpoint.save({"number": 1})

    def full(state: Any, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save({"number": 2})
    assert checkpoint.load() == {"number": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    Checkpoint(tmp_path, "one").save({})
    for content in (None, [1, 2]):
        if content is not None:
            torch.save(content, tmp_path / "checkpoint.pt")
        with pytest.raises(InputError, match=r"other settings, data or losses\. Choose another folder"):
            Checkpoint(tmp_path, "two").load()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_damaged_state_is_refused(tmp_path: Path, content: bytes | None) -> None:
    Checkpoint(tmp_path, "key").save({"x": torch.ones(100)})
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:200] if content is None else content)
    with pytest.raises(InputError, match="It cannot be read"):
        Checkpoint(tmp_path, "key").load()


def test_a_folder_that_cannot_be_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=r"file` is a file\. Choose another name"):
            Checkpoint(folder, "key")
    check_folder(tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(InputError, match="may not be"):
        Checkpoint(tmp_path / "new", "key")
