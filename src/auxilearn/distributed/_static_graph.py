"""The one way in which an outer step can harm training under DistributedDataParallel: found before it does."""

from torch import Tensor
from torch import distributed as dist

from auxilearn._checks import explain
from auxilearn._second_order import nodes
from auxilearn.errors import InputError


def refuse_early_static_graph(loss: Tensor, /) -> None:
    """Refuse to differentiate through ``DistributedDataParallel(static_graph=True)`` before its first ``backward()``.

    That would count as the first backward pass, in which the wrapper learns what to reduce: all later training steps
    would go without the other ranks' gradients, without a word.

    Args:
        loss: The loss.

    Raises:
        InputError: If it was computed that way.
    """
    if not dist.is_available() or not dist.is_initialized():
        return
    for node in nodes([loss.grad_fn], set()):
        if node.name() == "_DDPSinkBackward":
            wrapper = node.ddp_weakref()
            if wrapper.static_graph and not wrapper._static_graph_delay_allreduce_enqueued:
                rule = (
                    "`DistributedDataParallel(static_graph=True)` must see a `backward()` before any other derivative."
                )
                finding = "A loss was computed through a wrapper that has seen none, and would never reduce again."
                cure = "Compute the losses of the outer step with `ddp.module`, or take a training step first."
                raise InputError(explain(rule, finding, cure))
