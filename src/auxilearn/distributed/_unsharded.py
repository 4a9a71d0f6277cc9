"""A network of DTensors that can be differentiated twice: the same code on gathered weights, without hooks."""

# The tables of a module's parameters and buffers have no public way to hold plain tensors.
# pyright: reportPrivateUsage=false

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from auxilearn._checks import explain
from auxilearn._vectors import is_distributed
from auxilearn.distributed._gather import gathered
from auxilearn.errors import InputError


@final
class Unsharded:
    r"""The twin of a network whose weights are DTensors, for outer passes.

    ``fully_shard`` frees what a second derivative needs, and tensor parallelism cuts it from the graph.

    It holds no weights. Inside :meth:`of` it computes with those of the live network, gathered once: forward passes are
    this rank's, on its own batch, and their derivatives with respect to the *sharded* weights are means over the ranks,

    .. math:: \partial_{W_s} \frac1R \sum_r L_r ,

    sharded like the weights, and so are Hessian-vector products and the solver's vectors. A product sends the vector
    once and the result once. What it costs is a gathered copy of all weights at once, and of the gradient during a
    product; all ranks must reach the same weights.

    Args:
        model: The network *before* ``fully_shard`` or ``parallelize_module``; it may lie on the meta device. Buffers
            are those of the live network.

    Raises:
        InputError: If it is no module, or sharded already.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1)
        >>> plain = Unsharded(model)
        >>> # torch.distributed.fsdp.fully_shard(model), and training steps, come here
        >>> with plain.of(model) as net:
        ...     loss = net(torch.ones(3, 2)).square().mean()
        >>> torch.autograd.grad(loss, list(model.parameters()))[0].shape
        torch.Size([1, 2])
    """

    def __init__(self, model: nn.Module) -> None:
        rule, cure = "`Unsharded` takes the network before it is sharded.", "Build it before `fully_shard(model)`."
        if not isinstance(cast("object", model), nn.Module):
            raise InputError(explain(rule, f"It is a `{type(model).__name__}`.", "Pass the module."))
        if any(is_distributed(p) for p in model.parameters()):
            raise InputError(explain(rule, "Its parameters are sharded.", cure))
        # Copies on the meta device take no memory, and tied weights stay tied.
        owned = (*model.parameters(), *model.buffers())
        memo: dict[int, Any] = {id(t): _on_meta(t) for t in owned}
        self._twin = deepcopy(model, memo)
        self._names = _names(self._twin)

    @contextmanager
    def of(self, model: nn.Module) -> Generator[nn.Module, None, None]:
        """Lend the twin the weights of the live network.

        Only forward passes need to be inside; with activation checkpointing, which runs them again, the outer step as
        well. What is computed has its graph to ``model.parameters()``; the live
        network, its buffers among it, is left as it is.

        Args:
            model: The network, sharded since. Every rank must call this.

        Yields:
            A module of the original class: call it, or any of its methods and parts.

        Raises:
            InputError: If it is another network, or its weights are not in shards at present.
        """
        if _names(model) != self._names:
            rule, cure = "`Unsharded` must be given the network that it was built from.", "Build it from this one."
            raise InputError(explain(rule, "The names of parameters or buffers differ.", cure))
        _reshard(model)
        live_tensors = _all_gathered(model.parameters()) | {id(b): b.clone() for b in model.buffers()}
        kept: list[tuple[dict[str, Any], str, Any]] = []
        try:
            for (_, part), (_, twin) in zip(_parts(model), _parts(self._twin), strict=True):
                twin.training = part.training
                for mine, live in ((twin._parameters, part._parameters), (twin._buffers, part._buffers)):
                    for name, t in cast("dict[str, Tensor | None]", live).items():
                        if t is not None:
                            kept.append((cast("Any", mine), name, mine[name]))
                            cast("Any", mine)[name] = live_tensors[id(t)]
            yield self._twin
        finally:
            for table, name, empty in reversed(kept):
                table[name] = empty


def _on_meta(t: Tensor) -> Tensor:
    empty = torch.empty_like(t, device="meta")
    return nn.Parameter(empty, requires_grad=t.requires_grad) if isinstance(t, nn.Parameter) else empty


def _parts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(cast("Iterable[tuple[str, nn.Module]]", model.named_modules()))


def _names(model: nn.Module) -> list[list[str]]:
    return [[n for n, _ in model.named_parameters()], [n for n, _ in model.named_buffers()]]


def _all_gathered(params: Iterable[Tensor]) -> dict[int, Tensor]:
    # One message for each mesh and data type, and another one for those that are frozen.
    kinds: dict[Any, list[Tensor]] = {}
    whole: dict[int, Tensor] = {}
    for p in params:
        if is_distributed(p):
            kinds.setdefault((cast("Any", p).device_mesh, p.dtype, p.requires_grad), []).append(p)
        else:
            whole[id(p)] = p
    for shards in kinds.values():
        whole |= {id(p): t for p, t in zip(shards, gathered(shards), strict=True)}
    return whole


def _reshard(model: nn.Module) -> None:
    # After a forward pass without a backward pass the root still holds gathered weights, which are no leaves of ours.
    for part in model.modules():
        reshard = getattr(part, "reshard", None)
        if reshard is not None and hasattr(part, "set_reshard_after_backward"):
            reshard()
