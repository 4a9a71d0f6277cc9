"""Ctrl-C is held back until it is asked for."""

import signal
import threading
from collections.abc import Iterator

import pytest

from auxilearn.training._interrupt import interrupts_between_steps


@pytest.fixture(autouse=True)
def _python_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_it_is_heard_when_it_is_asked_for() -> None:
    done = []

    def steps() -> None:
        with interrupts_between_steps() as check:
            check()
            signal.raise_signal(signal.SIGINT)
            done.append("the rest of the step")
            check()
            done.append("another step")

    with pytest.raises(KeyboardInterrupt):
        steps()
    assert done == ["the rest of the step"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_is_heard_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_between_steps():
        signal.raise_signal(signal.SIGINT)


def test_a_second_one_is_heard_at_once() -> None:
    done = []

    def step() -> None:
        with interrupts_between_steps():
            signal.raise_signal(signal.SIGINT)
            done.append(1)
            signal.raise_signal(signal.SIGINT)
            done.append(2)

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == [1]


def test_somebody_elses_handler_is_left_in_place() -> None:
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    with interrupts_between_steps() as check:
        signal.raise_signal(signal.SIGINT)
        check()
    assert heard == [1]


def test_outside_the_main_thread_nothing_is_touched() -> None:
    done = []

    def work() -> None:
        with interrupts_between_steps() as check:
            check()
            done.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
