"""Weights of a torchvision network from a file, as torchvision publishes them."""

import pickle
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from auxilearn._checks import explain
from auxilearn.errors import InputError


def load_published(body: nn.Module, file: Path) -> None:
    """Load the weights of a network without its classifier.

    Args:
        body: A torchvision ResNet without ``fc``, changed in place.
        file: A file with a ``state_dict``, e.g. torchvision's ``resnet18-f37072fd.pth``; its ``fc`` is left out.

    Raises:
        InputError: If there is no such file, it holds no ``state_dict``, or one of another network, or numbers that
            are not finite.
    """
    state = {name: value for name, value in _read(file).items() if not name.startswith("fc.")}
    wanted = body.state_dict()
    # Old files lack these counts, which only BatchNorm without momentum reads.
    missing = [name for name in wanted if name not in state and not name.endswith(".num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted]
    other = [name for name in state if name in wanted and state[name].shape != wanted[name].shape]
    for fault, names in {"missing": missing, "not of this network": unexpected, "of another shape": other}.items():
        if names:
            some = ", ".join(f"`{name}`" for name in names[:3])
            finding = f"In {file}, {len(names)} tensors are {fault}, e.g. {some}."
            rule, cure = "The file must hold the weights of the same network.", "Take the file for this depth."
            raise InputError(explain(rule, finding, cure))
    for name, value in state.items():
        if not bool(value.isfinite().all()):
            rule, finding = "The weights must be finite.", f"In {file}, `{name}` is not."
            raise InputError(explain(rule, finding, "Fetch the file again."))
    body.load_state_dict(state, strict=False)


def _read(file: Path) -> dict[str, Tensor]:
    rule = "`pretrained` must be a file with a `state_dict`, as torchvision publishes it."
    cure = "Save it with `torch.save(model.state_dict(), file)`."
    if not file.is_file():
        raise InputError(explain(rule, f"There is no file {file}.", cure))
    try:
        state: Any = torch.load(file, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(explain(rule, f"{file} cannot be read as one.", cure)) from error
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor) for value in cast("dict[object, object]", state).values()
    ):
        raise InputError(explain(rule, f"{file} holds something else.", cure))
    return cast("dict[str, Tensor]", state)
