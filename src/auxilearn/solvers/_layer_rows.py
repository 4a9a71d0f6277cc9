"""Each sample's gradient of each layer's weights, from what it was given and what is pulled back to it."""

import warnings
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.functional import unfold

from auxilearn._checks import explain
from auxilearn.errors import SolverWarning
from auxilearn.solvers._jacobian_rows import DenseRows, JacobianRows, LinearRows
from auxilearn.solvers._watch import Call

Layer = tuple[nn.Module, list[Call], dict[str, nn.Parameter]]


class Picked(NamedTuple):
    """Which rows of J are kept.

    Attributes:
        samples: The sample of each, (r,).
        total: How many samples there are.
    """

    samples: Tensor
    total: int


def layer_rows(
    layers: list[Layer], slopes: dict[int, Tensor], places: dict[int, int], picked: Picked
) -> list[JacobianRows]:
    """Return the rows of the Jacobian that belong to each layer.

    Args:
        layers: Modules, their calls, and the parameters they hold, by name.
        slopes: What is pulled back to each call's output, for the rows kept, (r, k, ...) where the layer sees k rows a
            sample; by the call's identity.
        places: Where each parameter is, by its identity.
        picked: The rows kept.

    Returns:
        Those of the layers that treat samples apart; the others are named in a :class:`SolverWarning`.
    """
    held: dict[int, int] = {}
    for _, _, parameters in layers:
        for p in parameters.values():
            held[id(p)] = held.get(id(p), 0) + 1
    rows: list[JacobianRows] = []
    dense: dict[int, Tensor] = {}
    for layer, calls, parameters in layers:
        shared = len(calls) > 1 or any(held[id(p)] > 1 for p in parameters.values())
        if not shared and _has_factors(layer, calls[0], parameters, picked):
            rows.append(_factors(calls[0], slopes[id(calls[0])], parameters, places, picked))
            continue
        try:
            found = [_written_out(layer, call, slopes[id(call)], parameters, picked) for call in calls]
        except (RuntimeError, ValueError, TypeError) as error:
            _warn(layer, error)
            continue
        for one in found:
            for name, t in one.items():
                at = places[id(parameters[name])]
                dense[at] = dense[at] + t if at in dense else t
    return rows + [DenseRows(t, at) for at, t in dense.items()]


def _warn(layer: nn.Module, error: Exception) -> None:
    rule = "A curvature sketch needs layers that treat samples apart, along the first axis."
    cure = "It goes on without this layer's weights, at the cost of products. Use a `GroupNorm` for a `BatchNorm`."
    reason = str(error).split("\n")[0]
    warnings.warn(explain(rule, f"A `{type(layer).__name__}` does not: {reason}", cure), SolverWarning, stacklevel=5)


def _has_factors(layer: nn.Module, call: Call, parameters: dict[str, nn.Parameter], picked: Picked) -> bool:
    # A subclass of a linear layer may do more than multiply and add.
    plain = type(layer) is nn.Linear and "weight" in parameters
    return plain and call.output.dim() == 2 and len(call.output) == picked.total


def _factors(
    call: Call, slopes: Tensor, parameters: dict[str, nn.Parameter], places: dict[int, int], picked: Picked
) -> LinearRows:
    weight, bias = parameters["weight"], parameters.get("bias")
    given = call.inputs[0] if call.inputs else call.options["input"]
    # A sample may have several rows.
    own, of = cast("tuple[Tensor, Tensor]", picked.samples.unique(return_inverse=True))
    inputs = cast("Tensor", given).detach().to(weight.dtype)[own]
    if bias is not None:
        inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)
    at = places[id(weight)], None if bias is None else places[id(bias)]
    return LinearRows(inputs, of, slopes[:, 0].to(weight.dtype), *at)


def _written_out(
    layer: nn.Module, call: Call, slopes: Tensor, parameters: dict[str, nn.Parameter], picked: Picked
) -> dict[str, Tensor]:
    # Each kept row's gradient of the parameters, (r, *parameter). A sample may have several rows of a layer, one after
    # the other, where a network folds places into the first axis.
    values = {name: p.detach() for name, p in parameters.items()}
    dtype = next(iter(values.values())).dtype  # under autocast layers see other data types than their weights have

    def of_samples(t: Tensor) -> Tensor:
        own = t.detach().to(dtype) if t.is_floating_point() else t
        return own.reshape(picked.total, -1, *t.shape[1:])[picked.samples]

    slopes = slopes.to(dtype)
    if type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros" and len(call.inputs) == 1:
        padding = _padding(layer)
        if padding is not None:
            found = _convolution(layer, padding, of_samples(call.inputs[0])[:, 0], slopes[:, 0])
            return {name: found[name] for name in parameters}
    given, names = [*call.inputs, *call.options.values()], list(call.options)
    batched = [isinstance(a, Tensor) and a.dim() > 0 and len(a) == len(call.output) for a in given]

    def row_of(slope: Tensor, *one: Tensor) -> dict[str, Tensor]:
        left = iter(one)
        args = [next(left) if batch else a for a, batch in zip(given, batched, strict=True)]
        positional, named = args[: len(call.inputs)], args[len(call.inputs) :]

        def forward(p: dict[str, Tensor]) -> Tensor:
            found: Any = functional_call(layer, p, tuple(positional), dict(zip(names, named, strict=True)))
            return cast("Tensor", found[0]) if isinstance(found, tuple) else found

        pullback: Any = vjp(forward, values)[1]
        return pullback(slope)[0]

    inputs = [of_samples(a) for a, batch in zip(given, batched, strict=True) if batch]
    rows: Any = vmap(row_of, randomness="different")
    with torch.no_grad():  # weights of layers inside are constants here
        return rows(slopes, *inputs)


def _padding(layer: nn.Conv2d) -> tuple[int, int] | None:
    # None where two sides of an image are padded differently.
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "same":
        (a, odd_a), (b, odd_b) = (
            divmod(d * (k - 1), 2) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)
        )
        return None if odd_a or odd_b else (a, b)
    return cast("tuple[int, int]", layer.padding)


def _convolution(layer: nn.Conv2d, padding: tuple[int, int], inputs: Tensor, slopes: Tensor) -> dict[str, Tensor]:
    # A product of patches for each row: one by one, torch would run a convolution of as many groups as there are rows.
    window, dilation, stride = (cast("tuple[int, int]", t) for t in (layer.kernel_size, layer.dilation, layer.stride))
    patches = unfold(inputs, window, dilation, padding, stride)  # (r, n, places)
    places = slopes.flatten(2)  # (r, m, places)
    return {"weight": (places @ patches.mT).reshape(-1, *layer.weight.shape), "bias": places.sum(2)}
