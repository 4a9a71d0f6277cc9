"""Exact hypergradients over several processes of ``torch.distributed``.

``torch.autograd.grad`` knows nothing of other ranks, and ``DistributedDataParallel`` acts in ``backward()`` only: a
hypergradient would be that of the rank's own batch. With ``group=`` (of :func:`auxilearn.hypergradient`,
:class:`~auxilearn.optim.MetaOptimizer` and :func:`auxilearn.usefulness`) the right-hand side, every Hessian-vector
product and the mixed product are means over the ranks, one all-reduce each, so that all ranks get the hypergradient of
the mean loss::

    meta = MetaOptimizer(torch.optim.Adam(combiner.parameters()), group=torch.distributed.group.WORLD)

=====================================  ====================================================================
the weights                            what to do
=====================================  ====================================================================
one copy a rank, e.g. in DDP           ``group=torch.distributed.group.WORLD``; :func:`share` where ranks have
                                       different numbers of samples
sharded by ``fully_shard`` (FSDP2)     besides, compute the losses of the outer step with :class:`Unsharded`
tensor parallel (``DTensor``)          the same as for shards
a problem of its own on each rank      ``group="local"``, or everything inside :func:`independent`
=====================================  ====================================================================

Without a word from you, several ranks are an error.
"""

from auxilearn._ranks import independent
from auxilearn.distributed._ranks import Group
from auxilearn.distributed._share import share
from auxilearn.distributed._unsharded import Unsharded

__all__ = ["Group", "Unsharded", "independent", "share"]
