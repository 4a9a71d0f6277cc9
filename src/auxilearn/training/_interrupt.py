"""Ctrl-C is heard between two steps, where the state of training is whole."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_between_steps() -> Generator[Callable[[], None], None, None]:
    """Hold Ctrl-C back until it is asked for, so that a step is taken whole or not at all; a second one comes at once.

    A handler of somebody else's is left in place, and so is everything outside the main thread.

    Yields:
        A function that raises ``KeyboardInterrupt`` if there was an interrupt.
    """
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if heard:
            signal.default_int_handler(number, frame)
        heard.append(number)

    def check() -> None:
        if heard:
            raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours:
        yield check
        return
    signal.signal(signal.SIGINT, hear)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    check()
