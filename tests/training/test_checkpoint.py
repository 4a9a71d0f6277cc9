"""A checkpoint is there whole or not at all, and of the run that asks for it."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.training._checkpoint import Checkpoint, check_folder


def test_a_state_comes_back(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "a" / "b")
    assert checkpoint.load("key") is None
    assert not (tmp_path / "a").exists()
    state = {"x": torch.arange(3), "y": [1, ("two", None)], "z": {"w": 0.5}}
    checkpoint.save("key", state)
    found = checkpoint.load("key")
    assert found is not None
    assert torch.equal(found.pop("x"), state["x"])
    assert found == {"y": [1, ("two", None)], "z": {"w": 0.5}}
    assert [f.name for f in (tmp_path / "a" / "b").iterdir()] == ["checkpoint.pt"]


def test_a_failing_save_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save("key", {"number": 1})

    def full(state: Any, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save("key", {"number": 2})
    assert checkpoint.load("key") == {"number": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("content", [Path("x"), object(), lambda: 0])
def test_what_could_not_be_read_again_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(InputError, match="A checkpoint holds"):
        Checkpoint(tmp_path / "a" / "b").save("key", {"callbacks": [content]})
    assert not list(tmp_path.iterdir())
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save("key", {"number": 1})
    with pytest.raises(InputError, match=r"A checkpoint holds tensors.*something else.*Convert it"):
        checkpoint.save("key", {"callbacks": [content]})
    assert checkpoint.load("key") == {"number": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    Checkpoint(tmp_path).save("one", {})
    for content in (None, [1, 2]):
        if content is not None:
            torch.save(content, tmp_path / "checkpoint.pt")
        with pytest.raises(InputError, match=r"other settings, data or losses\. Choose another folder"):
            Checkpoint(tmp_path).load("two")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"hello", None])
def test_a_damaged_state_is_refused(tmp_path: Path, content: bytes | None) -> None:
    Checkpoint(tmp_path).save("key", {"x": torch.ones(100)})
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:200] if content is None else content)
    with pytest.raises(InputError, match="It cannot be read"):
        Checkpoint(tmp_path).load("key")


def test_a_folder_that_cannot_be_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=r"file` is a file\. Choose another name"):
            Checkpoint(folder)
    for name, finding in ((3, "int"), ("a\0b", "null"), ("a" * 300, "too long")):
        with pytest.raises(InputError, match=rf"can be written to\. .*{finding}.* Choose another name"):
            check_folder(name)  # type: ignore[arg-type]
    check_folder(tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(InputError, match="may not be"):
        Checkpoint(tmp_path / "new")


def test_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a link to nowhere"):
        Checkpoint(tmp_path / "run")
