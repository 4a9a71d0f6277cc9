"""Record the calls of a network's layers in a forward pass: what came in, and where to differentiate the output."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast, final

from torch import Tensor, nn


class Call(NamedTuple):
    """One call of a layer.

    Attributes:
        inputs: Its positional arguments.
        options: Its keyword arguments.
        output: What it returned, or the first tensor of it, with its graph.
    """

    inputs: tuple[Any, ...]
    options: dict[str, Any]
    output: Tensor


@final
class Watch:
    """The calls of all modules of a network that hold weights.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module, /) -> None:
        self._model = model
        self._calls: dict[nn.Module, list[Call]] = {}

    @contextmanager
    def watched(self) -> Generator[None, None, None]:
        """Record the calls inside the block; those of an earlier block are forgotten.

        Yields:
            Nothing.
        """
        self._calls = {}
        holders = [m for m in self._model.modules() if next(m.parameters(), None) is not None]
        hooks = [m.register_forward_hook(self._record, with_kwargs=True) for m in holders]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _record(self, layer: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
        first: object = output
        if isinstance(output, tuple) and output:
            first = cast("tuple[object, ...]", output)[0]
        if isinstance(first, Tensor) and first.requires_grad:
            self._calls.setdefault(layer, []).append(Call(inputs, options, first))

    def forget(self) -> None:
        """Let go of the recorded tensors and their graphs."""
        self._calls = {}

    def layers(self) -> Iterator[tuple[nn.Module, list[Call], dict[str, nn.Parameter]]]:
        """Yield each called module, its calls, and the trainable parameters that it is the innermost to hold.

        A module that was not called itself, since another one read its weights, leaves them to the module around it.

        Yields:
            Module, calls, and its parameters by their names in it. A parameter that several modules share is yielded
            with each of them.
        """
        taken: dict[nn.Module, dict[str, nn.Parameter]] = {}

        def visit(module: nn.Module, owner: nn.Module | None, path: str) -> None:
            if module in self._calls:
                owner, path = module, ""
            for name, parameter in module.named_parameters(recurse=False):
                if owner is not None and parameter.requires_grad:
                    taken.setdefault(owner, {})[path + name] = parameter
            for name, child in module.named_children():
                visit(child, owner, f"{path}{name}.")

        visit(self._model, None, "")
        for module, parameters in taken.items():
            yield module, self._calls[module], parameters
