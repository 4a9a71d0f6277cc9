"""Complaints of torch's compiler, in the library's words."""

from collections.abc import Generator
from contextlib import contextmanager

from auxilearn._checks import explain
from auxilearn._second_order import naming_first_order_operators
from auxilearn.errors import AuxilearnError, InputError


@contextmanager
def explaining() -> Generator[None, None, None]:
    """Translate what ``torch.compile`` complains of into rule, finding and cure.

    Yields:
        Nothing.

    Raises:
        InputError: Where there is no C++ compiler, or the loss cannot be traced as one graph.
        SecondOrderError: Where an operator has no second derivative.
        AuxilearnError: One of ours, unchanged.
        Exception: Every other error, unchanged.
    """
    try:
        with naming_first_order_operators():
            yield
    except AuxilearnError:
        raise
    except Exception as error:  # that of too many sizes is no RuntimeError
        causes = _causes(error)
        if any(type(c).__name__ in {"InvalidCxxCompiler", "CppCompileError"} for c in causes):
            rule = "`torch.compile` needs a C++ compiler that works."
            cure = 'Install g++ or clang++ (or name it in `CXX`), pass `backend="aot_eager"`, or use `Hessian`.'
            raise InputError(explain(rule, f"It says: {_line(causes[-1])}.", cure)) from error
        if any("Limit" in type(c).__name__ for c in causes):
            rule = "`torch.compile` takes a few batch sizes."
            cure = "Pad or drop the last batch, pass `dynamic=True`, or use `Hessian`."
            raise InputError(explain(rule, f"It says: {_line(error)}.", cure)) from error
        # By its name, for the compiler takes a second to import.
        if any(kind.__name__ == "TorchDynamoException" for c in causes for kind in type(c).__mro__):
            rule = "`torch.compile` must be able to trace the loss as one graph."
            cure = (
                "Take Python's decisions on values of tensors out of the loss (`torch.where` traces), or use `Hessian`."
            )
            raise InputError(explain(rule, f"It says: {_line(error)}.", cure)) from error
        raise


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = [error]
    while (following := getattr(found[-1], "inner_exception", None) or found[-1].__cause__) and len(found) < 20:
        found.append(following)
    return found


def _line(error: BaseException) -> str:
    # The compiler's messages are pages: their first line, and what follows "context:".
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    context = [line.partition("context:")[2].strip() for line in lines if "context:" in line]
    return ": ".join(part.rstrip(".") for part in [*lines[:1], *context[:1]] if part)[:300] or type(error).__name__
