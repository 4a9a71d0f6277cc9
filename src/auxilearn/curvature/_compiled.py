"""The exact Hessian with compiled products: the gradient is compiled as a function, and its backward is the product."""

# torch leaves the types of its compiler open, and has no public name for the setting that keeps a graph for several
# backward passes, nor for the errors of the compiler.
# pyright: reportPrivateImportUsage=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import count
from types import FunctionType
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch._functorch import config as functorch
from torch.func import functional_call, grad_and_value

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn._vectors import Vector
from auxilearn.curvature._base import LossCurvature
from auxilearn.curvature._compiler_errors import explaining
from auxilearn.curvature._hessian import Hessian
from auxilearn.curvature._retained import RetainedGradient
from auxilearn.errors import InputError, SecondOrderError
from auxilearn.safety import second_order


@final
class CompiledHessian:
    r"""A factory of Hessians whose gradient, products and mixed products are compiled once, for all steps.

    ``torch.compile`` cannot differentiate a compiled *module* twice, but it can compile the function
    :math:`(W, \varphi) \mapsto \partial_W L_T` as a whole. Its backward pass, compiled too, is
    :math:`v \mapsto (\partial_W^2 L_T\, v,\; (\partial_\varphi \partial_W L_T)^\top v)`, so that a product recomputes
    nothing that does not depend on :math:`v`. It gains where a product is many small or element-wise kernels, as in
    convolutional networks; where it is a few large matrix products there is little to gain. Both parts are computed
    each time, so that the one mixed product of an outer step costs somewhat more than without compiling.

    The first call compiles, which takes from seconds to minutes, and compares the gradient and one product with those
    of :class:`Hessian`, in the precision of the weights. Later calls with the same shapes compile nothing. Another
    batch size compiles once more, for any size from then on.

    Every call runs inside :func:`auxilearn.safety.second_order`: buffers of the modules (BatchNorm statistics) and the
    random state stay as they were, and dropout draws what it would draw next. (Inductor of torch 2.6 draws other
    numbers; the comparison of the first call then refuses the loss.)

    Args:
        loss: Computes the training loss :math:`L_T`, a scalar, from the tensors of a batch by calling the modules. Its
            auxiliary parameters need not be named: it may read any tensors, but the weights only through the modules.
        modules: The networks whose trainable parameters are the weights :math:`W`. Tied weights count once.
        damping: :math:`\delta \ge 0`, added to the diagonal.
        backend: Of ``torch.compile``. ``"inductor"`` needs a C++ compiler on the CPU; ``"aot_eager"`` needs none, and
            gains little.
        dynamic: Of ``torch.compile``: None compiles a second time for any size once sizes change, False for each size
            anew (at most eight times), which is what dropout needs.

    Raises:
        InputError: For bad arguments. At a call: where ``torch.compile`` cannot trace the loss as one graph (control
            flow that depends on data), there is no C++ compiler, or the weights are sharded.
        SecondOrderError: At a call: if a module is compiled by itself, an operator has no second derivative, or the
            compiled products are not the exact ones.

    Example:
        >>> model, log_weight = nn.Linear(2, 1), nn.Parameter(torch.zeros(()))
        >>> compiled = CompiledHessian(
        ...     lambda x, y: log_weight.exp() * (model(x) - y).square().mean(), [model], backend="aot_eager"
        ... )
        >>> H = compiled(torch.eye(2), torch.ones(2, 1))
        >>> (H @ Vector([torch.ones(1, 2), torch.zeros(1)])).tensors[1].item()
        2.0

        It is passed in place of the train loss: ``hypergradient(H, val_loss, params=(), aux_params=[log_weight])``.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        modules: Iterable[nn.Module],
        *,
        damping: float = 0.0,
        backend: str = "inductor",
        dynamic: bool | None = None,
    ) -> None:
        if not callable(loss):
            rule, cure = "`loss` must be a function that computes the training loss.", "Pass `lambda x, y: loss(...)`."
            raise InputError(explain(rule, f"It is a `{type(loss).__name__}`.", cure))
        self._networks = _networks(modules)
        _checks.at_least("damping", damping, 0.0)
        if backend not in (known := torch.compiler.list_backends(exclude_tags=())):
            rule, cure = f"`backend` must be one of {', '.join(map(repr, known))}.", 'E.g. "inductor".'
            raise InputError(explain(rule, f"It is {backend!r}.", cure))
        self._loss, self._damping = loss, damping
        # Inductor has random numbers of its own unless it is told to use torch's.
        options: dict[str, Any] | None = {"fallback_random": True} if backend == "inductor" else None
        self._compiled = torch.compile(
            _gradient_of(_Caller(self._networks), loss),
            fullgraph=True,
            dynamic=dynamic,
            backend=backend,
            options=options,
        )
        self._reached: dict[tuple[str, ...], tuple[str, ...]] = {}

    def __call__(self, *batch: Tensor, loss_scale: float = 1.0) -> LossCurvature:
        """Return the Hessian at the present weights.

        Args:
            *batch: What the loss is computed from.
            loss_scale: See :class:`Hessian`; another one compiles nothing.

        Returns:
            An operator for :func:`auxilearn.hypergradient` and :class:`auxilearn.optim.MetaOptimizer`.
        """
        trainable: dict[str, Tensor] = {name: p for name, p in self._networks.named_parameters() if p.requires_grad}
        _refuse_sharded(_checks.tensors("the parameters of `modules`", trainable.values()))
        # Whatever the caller's mode, the operator needs a graph.
        with torch.inference_mode(False), torch.enable_grad(), second_order(*self._networks):
            key = tuple(trainable)
            if key in self._reached:
                return self._made({name: trainable[name] for name in self._reached[key]}, batch, loss_scale)
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                exact = Hessian(self._loss(*batch), trainable.values(), loss_scale=loss_scale)
            found = {id(p) for p in exact.params}
            weights = {name: p for name, p in trainable.items() if id(p) in found}
            made = self._made(weights, batch, loss_scale)
            if loss_scale > 1.0 and not bool(exact.gradient().norm().isfinite()):
                return made  # of an overflow nothing can be learned; a later call compares
            with explaining():
                _compare(made, exact)
            made.products = 0
            self._reached[key] = tuple(weights)
            return made

    def _made(self, weights: dict[str, Tensor], batch: tuple[Tensor, ...], loss_scale: float) -> LossCurvature:
        like = next(iter(weights.values()))
        with _kept_for_many_products(), explaining():
            # A tensor, for a number would be compiled into the program.
            gradient, loss = self._compiled(weights, batch, like.new_tensor(loss_scale))
        scaled = _checks.scaled_loss("train_loss", loss, loss_scale)
        found = tuple(gradient[name] for name in weights)
        if not math.isfinite(scaled.item()):
            found = tuple(g * math.nan for g in found)
        return _Compiled(found, tuple(weights.values()), self._damping, loss_scale)


def _kept_for_many_products() -> AbstractContextManager[None]:
    # By default a compiled backward pass may overwrite what was saved for it, and so runs but once. It is asked when
    # the forward pass is compiled, and again when the backward pass is, which may be at the first product.
    return cast("AbstractContextManager[None]", functorch.patch(donated_buffer=False))


@final
class _Compiled(LossCurvature):
    def __init__(
        self, gradient: tuple[Tensor, ...], params: tuple[Tensor, ...], damping: float, loss_scale: float
    ) -> None:
        super().__init__(params, damping=damping)
        precision = _precision(params[0])
        self._retained = RetainedGradient(
            gradient, params, unscale=1.0 / loss_scale, float16=precision is torch.float16
        )
        self._half_precision = precision.itemsize < 4

    @property
    def half_precision(self) -> bool:
        return self._half_precision

    def gradient(self) -> Vector:
        return self._retained.values()

    def _multiply(self, v: Vector, /) -> Vector:
        with _kept_for_many_products():
            return self._retained.multiply(v)

    def cross(self, x: Vector, aux_params: Sequence[Tensor], /) -> tuple[Tensor | None, ...]:
        with _kept_for_many_products():
            return self._retained.differentiate(x, aux_params)

    def release(self) -> None:
        self._retained.release()


_NUMBERS = count()


@final
class _Caller(nn.Module):
    # The networks hang below the module that is called, so that their parameters are replaced for the loss's time.
    def __init__(self, networks: nn.ModuleList) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, loss: Callable[..., Tensor], *batch: Tensor) -> Tensor:
        return loss(*batch)


def _value(
    caller: _Caller,
    loss: Callable[..., Tensor],
    weights: dict[str, Tensor],
    batch: tuple[Tensor, ...],
    scale: Tensor,
) -> Any:
    # Buffers are copied here, for nothing from outside may be written while a function is differentiated.
    buffers = {name: buffer.clone() for name, buffer in caller.named_buffers()}
    replaced = {f"networks.{name}": p for name, p in weights.items()}
    value = functional_call(caller, (replaced, buffers), (loss, *batch)).reshape(())
    return value * scale, value


def _gradient_of(caller: _Caller, loss: Callable[..., Tensor]) -> Callable[..., Any]:
    def gradient(weights: dict[str, Tensor], batch: tuple[Tensor, ...], scale: Tensor) -> Any:
        # A lambda, for torch 2.6 cannot trace the definition of a function with annotations.
        found, (_, value) = grad_and_value(lambda w: _value(caller, loss, w, batch, scale), has_aux=True)(weights)  # pyright: ignore
        return found, value

    # The compiler keeps its programs with the code, few of them for each, and remembers by name which sizes vary: every
    # factory has a code and a name of its own.
    code = gradient.__code__.replace(co_name=f"gradient_{next(_NUMBERS)}")
    return FunctionType(code, globals(), closure=gradient.__closure__)


def _networks(modules: Iterable[nn.Module]) -> nn.ModuleList:
    rule, given = "`modules` must be a list of networks.", cast("object", modules)
    if isinstance(given, nn.Module) or not isinstance(given, Iterable):
        cure = "Put the network in a list: `[model]`."
        raise InputError(explain(rule, f"It is a `{type(given).__name__}`.", cure))
    listed = list(cast("Iterable[object]", given))
    for module in listed or [None]:
        if not isinstance(module, nn.Module):
            finding = f"It holds a `{type(module).__name__}`." if listed else "It is empty."
            raise InputError(explain(rule, finding, "Pass the networks themselves, `[model]`."))
    return nn.ModuleList(cast("list[nn.Module]", listed))


def _refuse_sharded(params: Sequence[Tensor]) -> None:
    if any(hasattr(p, "full_tensor") for p in params):
        rule, cure = "A compiled Hessian needs whole weights.", "Use `Hessian`, which works with sharded ones."
        raise InputError(explain(rule, "Some of them are sharded (`DTensor`).", cure))


def _precision(like: Tensor) -> torch.dtype:
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype


def _compare(found: LossCurvature, exact: LossCurvature) -> None:
    gradient = exact.gradient()
    v = gradient.randn_like(torch.Generator().manual_seed(0))
    tolerance = torch.finfo(_precision(v.tensors[0])).eps ** 0.5
    pairs = {"gradient": (found.gradient(), gradient), "product": (found @ v - v * found.damping, exact @ v)}
    for name, (mine, true) in pairs.items():
        error, size = float((mine - true).norm()), float(true.norm())
        if not error <= tolerance * size:
            rule = "The compiled Hessian must be that of the loss."
            finding = (
                f"Its {name} differs by {error / size if size else error:.1e} from the one without `torch.compile`."
            )
            cure = "Let the loss read the weights only by calling `modules`, or use `Hessian`."
            raise SecondOrderError(explain(rule, finding, cure))
