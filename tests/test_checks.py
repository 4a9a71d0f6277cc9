"""Every message: the rule and the finding in full, and the cure by its main word."""

import math
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from auxilearn import _checks
from auxilearn.errors import AuxilearnError, InputError
from support import DEVICE

ITERABLE = "`params` must be an iterable of tensors."
TRAINABLE = "`params` must hold at least one tensor that requires a gradient."
FLOATING = "`params` must be floating-point tensors."
SCALAR = "`train_loss` must be a scalar tensor with a graph."


def weight(dtype: torch.dtype = torch.float32, device: torch.device | str = DEVICE) -> Tensor:
    return torch.ones(2, dtype=dtype, device=device, requires_grad=True)


def refused(check: str, *arguments: object, rule: str, finding: str, cure: str) -> None:
    with pytest.raises(InputError) as caught:
        getattr(_checks, check)(*arguments)
    assert isinstance(caught.value, (AuxilearnError, ValueError))
    said, advice = str(caught.value)[: len(rule) + 1 + len(finding)], str(caught.value)[len(rule) + len(finding) + 2 :]
    assert said == f"{rule} {finding}"
    assert cure in advice
    assert advice.endswith((".", "`"))


def test_the_three_sentences_are_joined() -> None:
    assert _checks.explain("Rule.", "Finding.", "Cure.") == "Rule. Finding. Cure."


def test_a_generator_becomes_a_tuple_of_its_trainable_tensors() -> None:
    a, b = weight(), weight()
    frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    quantised = nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False)
    found = _checks.tensors("params", (t for t in (a, frozen, quantised, b)))
    assert [id(t) for t in found] == [id(a), id(b)]


@pytest.mark.parametrize(
    ("values", "finding", "cure"),
    [
        (nn.Linear(1, 1), "It is a module.", "`.parameters()`"),
        (torch.ones(2), "It is a single tensor.", "`[tensor]`"),
        ({"w": torch.ones(2)}, "It is a `dict`.", "a list"),
        ("weights", "It is a `str`.", "a list"),
        (7, "It is a `int`.", "a list"),
        (None, "It is a `NoneType`.", "a list"),
        (weight, "It is a `function`.", "Call it."),
        ([1.0], "It holds a `float`.", "Pass tensors."),
        (list(nn.Linear(1, 1).named_parameters()), "It holds a `tuple`.", "not `.named_parameters()`"),
        ([[weight()], [weight()]], "It holds a `list`.", "one list"),
    ],
)
def test_tensors_takes_iterables_of_tensors_only(values: Iterable[Tensor], finding: str, cure: str) -> None:
    refused("tensors", "params", values, rule=ITERABLE, finding=finding, cure=cure)


USED = weight()


@pytest.mark.parametrize(
    ("values", "rule", "finding", "cure"),
    [
        ([torch.arange(3)], FLOATING, "One has dtype torch.int64.", "labels"),
        ([weight(torch.cfloat)], "`params` must be real tensors.", "One has dtype torch.complex64.", "view_as_complex"),
        (iter(()), TRAINABLE, "It is empty.", "a generator that was used before is empty"),
        ([torch.ones(2), torch.ones(2)], TRAINABLE, "All 2 are frozen.", "`.parameters()`"),
        ([USED, weight(), USED], "`params` must not repeat a tensor.", "1 of 3 are repeats.", "dict.fromkeys"),
        (
            [weight(device="cpu"), weight(device="meta")],
            "`params` must share one device.",
            "They lie on cpu, meta.",
            "`.to(device)`",
        ),
        (
            [weight(), weight(torch.bfloat16)],
            "`params` must share one dtype.",
            "They have torch.bfloat16, torch.float32.",
            "master weights",
        ),
    ],
)
def test_tensors_must_be_distinct_trainable_and_of_one_kind(
    values: Iterable[Tensor], rule: str, finding: str, cure: str
) -> None:
    refused("tensors", "params", values, rule=rule, finding=finding, cure=cure)


def test_blocks_may_be_frozen_and_may_repeat() -> None:
    frozen = torch.ones(2)
    assert [id(t) for t in _checks.blocks("x", iter([frozen, frozen]))] == [id(frozen)] * 2


@pytest.mark.parametrize(
    ("values", "rule", "finding", "cure"),
    [
        ([], "`x` must hold at least one tensor.", "It is empty.", "Pass the tensors."),
        ([1.0], "`x` must be an iterable of tensors.", "It holds a `float`.", "Pass tensors."),
        (
            [torch.ones(1), torch.ones(1).double()],
            "`x` must share one dtype.",
            "They have torch.float32, torch.float64.",
            "one dtype",
        ),
    ],
)
def test_blocks_must_be_of_one_kind(values: Iterable[Tensor], rule: str, finding: str, cure: str) -> None:
    refused("blocks", "x", values, rule=rule, finding=finding, cure=cure)


@pytest.mark.parametrize(
    ("loss", "finding", "cure"),
    [
        (0.5, "It is a `float`.", "not `.item()`"),
        (weight() * 2, "Its shape is (2,).", "`.mean()`"),
        (torch.ones(()), "It is cut from the graph.", "`torch.no_grad()`"),
    ],
)
def test_a_loss_must_be_a_scalar_with_a_graph(loss: Tensor, finding: str, cure: str) -> None:
    refused("scalar_loss", "train_loss", loss, rule=SCALAR, finding=finding, cure=cure)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_must_be_finite(value: float) -> None:
    loss = weight().sum() * value
    rule = "`train_loss` must be finite."
    refused("scalar_loss", "train_loss", loss, rule=rule, finding=f"It is {value}.", cure="overflow")


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_loss_of_one_element_counts_as_a_scalar_and_keeps_its_graph(shape: tuple[int, ...]) -> None:
    w = weight()
    loss = _checks.scalar_loss("train_loss", w.sum().reshape(shape))
    assert loss.shape == ()
    loss.backward()
    assert w.grad is not None


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "3", None, torch.ones(2)])
def test_at_least_names_the_bound(value: float) -> None:
    rule = "`tolerance` must be finite and at least 0."
    refused("at_least", "tolerance", value, 0, rule=rule, finding=f"It is {value!r}.", cure="Change it.")


@pytest.mark.parametrize("value", [-1, 2.5, "3", None])
def test_a_count_is_a_whole_number(value: int) -> None:
    rule = "`terms` must be an integer of at least 0."
    refused("count", "terms", value, 0, rule=rule, finding=f"It is {value!r}.", cure="Change it.")


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "1"])
def test_positive_excludes_zero(value: float) -> None:
    rule = "`lr` must be finite and above 0."
    refused("positive", "lr", value, rule=rule, finding=f"It is {value!r}.", cure="Change it.")


def test_a_setting_may_be_left_to_the_library() -> None:
    rule = "`alpha` must be a positive number or 'auto'."
    refused("positive_or_auto", "alpha", "otto", rule=rule, finding="It is 'otto'.", cure="Choose one of them.")
    rule = "`alpha` must be finite and above 0."
    refused("positive_or_auto", "alpha", -1.0, rule=rule, finding="It is -1.0.", cure="Change it.")
    _checks.positive_or_auto("alpha", "auto")
    _checks.positive_or_auto("alpha", 0.1)


def test_one_of_lists_the_choices() -> None:
    rule = "`on_failure` must be one of 'warn', 'raise'."
    refused(
        "one_of", "on_failure", "wrn", ("warn", "raise"), rule=rule, finding="It is 'wrn'.", cure="Choose one of them."
    )


def test_what_keeps_the_rules_passes() -> None:
    _checks.at_least("tolerance", 0, 0)
    _checks.at_least("tolerance", torch.tensor(0.5), 0)
    _checks.count("terms", 0, 0)
    _checks.positive("lr", 1e-30)
    _checks.one_of("on_failure", "warn", ("warn", "raise"))


@pytest.mark.parametrize(
    ("dtype", "low"),
    [(torch.float64, False), (torch.float32, False), (torch.bfloat16, True), (torch.float16, True)],
)
def test_low_precision_is_less_than_float32(dtype: torch.dtype, low: bool) -> None:
    assert _checks.low_precision(dtype) is low
