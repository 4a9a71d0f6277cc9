"""What a foreign module remembers outside its buffers, as something that can be saved."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer


def remember(module: nn.Module, /) -> dict[str, Any]:
    """Collect what a module keeps in private attributes: TorchJD keeps its counters, averages and optimizers there.

    Public attributes are settings, parameters and buffers are in the module's ``state_dict`` already.

    Args:
        module: The module.

    Returns:
        Numbers, tensors, lists of them, and states of optimizers, by name.
    """
    return {name: _saved(value) for name, value in _private(module).items() if _savable(value)}


def recall(module: nn.Module, memory: dict[str, Any], /) -> None:
    """Put back what :func:`remember` collected.

    Args:
        module: A module with the same settings.
        memory: What was collected.
    """
    for name, value in memory.items():
        if isinstance(value, dict):
            # TorchJD makes its optimizer at the first update; the state brings the settings with it.
            optimizer = Adam(module.parameters())
            optimizer.load_state_dict(cast("dict[str, Any]", value))
            setattr(module, name, optimizer)
        else:
            setattr(module, name, value)


def make_room(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give buffers that a foreign module makes at its first use a place, before a state is loaded into them.

    Args:
        module: The module that is loaded into; a hook of its ``load_state_dict``.
        state: The state.
        prefix: What the module's names begin with in it.
        *_: What torch passes besides.
    """
    for name, child in cast("Iterator[tuple[str, Any]]", module.named_modules()):
        where = f"{prefix}{name}." if name else prefix
        for key in [k for k, value in child._buffers.items() if value is None]:  # torch's `named_buffers` skips them
            saved = state.get(where + key)
            if isinstance(saved, Tensor):
                setattr(child, key, saved.clone())


def _private(module: nn.Module) -> dict[str, Any]:
    own = vars(nn.Module())
    return {name: value for name, value in vars(module).items() if name.startswith("_") and name not in own}


def _savable(value: object) -> bool:
    # What `torch.load(weights_only=True)` reads.
    if isinstance(value, (list, tuple)):
        return all(_savable(entry) for entry in cast("list[object]", value))
    return value is None or isinstance(value, (bool, int, float, str, torch.dtype, Tensor, Optimizer))


def _saved(value: Any) -> Any:
    return value.state_dict() if isinstance(value, Optimizer) else value
