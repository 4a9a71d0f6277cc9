"""The random states that a user's losses, data and callbacks may draw from."""

import random
import sys
from typing import Any, cast

import torch


def random_states() -> dict[str, Any]:
    """Return the global random states of torch, its GPUs, Python, and numpy if somebody has imported it.

    Returns:
        Tensors, and plain numbers in tuples, lists and dictionaries.
    """
    numpy: Any = sys.modules.get("numpy")
    return {
        "torch": torch.get_rng_state(),
        "GPUs": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "Python": random.getstate(),
        "numpy": None if numpy is None else _plain(numpy.random.get_state(legacy=False)),
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Set them back; what is not there now, or was not there then, is left alone.

    Args:
        states: What :func:`random_states` returned.
    """
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["GPUs"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["GPUs"])
    random.setstate(states["Python"])
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and states["numpy"] is not None:
        numpy.random.set_state(states["numpy"])


def _plain(value: Any) -> Any:
    # A checkpoint holds no arrays: it is read without trust in what made it.
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in cast("dict[str, Any]", value).items()}
    return value.tolist() if hasattr(value, "tolist") else value
