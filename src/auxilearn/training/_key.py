"""What a run is, as far as two runs can be told apart."""

import hashlib
import re
from collections.abc import Iterable
from typing import cast

from torch.nn import Module


def key_of(parts: Iterable[object]) -> str:
    """Digest what a run is made of.

    Args:
        parts: Settings, names and shapes. Functions are told apart by name.

    Returns:
        Equal for equal parts, in any process.
    """
    return hashlib.sha256("\n".join(map(_described, parts)).encode()).hexdigest()


def name_of(function: object) -> str:
    """Name a function, or what is called like one.

    Args:
        function: The function.

    Returns:
        Its name, or its class's.
    """
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _described(part: object) -> str:
    if isinstance(part, Module):  # the representation of a module does not show all settings
        fresh = vars(Module())
        own = {n: v for n, v in vars(part).items() if not n.startswith("_") and n not in fresh}
        buffers = [(name, cast("object", buffer.tolist())) for name, buffer in part.named_buffers()]
        part = (part, sorted(own.items()), buffers)
    # Without addresses, which differ from process to process.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(part))
