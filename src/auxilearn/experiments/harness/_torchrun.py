"""Jobs shared by the ranks of ``torchrun``: each trains by itself, and the first one speaks for all."""

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, cast, final

from torch import distributed as dist

from auxilearn.experiments.harness._run import Failure, attempt, prepare
from auxilearn.experiments.harness._store import Job, Store

Done = Callable[[Job, Failure | None], None]


@final
@dataclass(frozen=True)
class Crew:
    """The ranks that ``torchrun`` has started, which meet at its key-value store; there is no process group.

    Attributes:
        rank: This rank.
        size: How many there are.
        board: The key-value store.
    """

    rank: int
    size: int
    board: Any

    def publish(self, jobs: Sequence[Job]) -> None:
        """Tell the other ranks what to do; called by the first rank, once, even if there is nothing.

        Args:
            jobs: The jobs, in this order.
        """
        self.board.set("jobs", json.dumps([tuple(job) for job in jobs]))

    def help(self, store: Store) -> None:
        """Take part in what the first rank publishes, until nothing is left.

        Args:
            store: Where results are kept.
        """
        self._work(self._published(), store)

    def run(self, jobs: Sequence[Job], store: Store, *, done: Done | None = None) -> list[Failure]:
        """Publish jobs, take part in them, and hear of all that are finished.

        Args:
            jobs: What to run.
            store: Where results are kept, by the rank that has them: a folder that all ranks share.
            done: Called after each job of any rank, with its failure if it failed.

        Returns:
            The jobs that failed, after all others were run.
        """
        failures: list[Failure] = []
        self.publish(jobs)
        # A thread, for the first rank is at work meanwhile; it dies with the process.
        listener = threading.Thread(target=self._listen, args=(len(jobs), failures, done), daemon=True)
        listener.start()
        self._work(jobs, store)
        while listener.is_alive():
            listener.join(0.2)  # in pieces, so that Ctrl-C is heard
        return failures

    def _published(self) -> list[Job]:
        return [Job(*job) for job in cast("list[tuple[str, str, str, int]]", json.loads(self.board.get("jobs")))]

    def _work(self, jobs: Sequence[Job], store: Store) -> None:
        prepare()
        while (taken := cast("int", self.board.add("taken", 1)) - 1) < len(jobs):
            outcome = attempt(jobs[taken])
            failure = outcome if isinstance(outcome, Failure) else None
            if not isinstance(outcome, Failure):
                store.put(jobs[taken], outcome)
            said = [taken, None if failure is None else [failure.message, failure.trace]]
            self.board.set(f"said {self.board.add('said', 1) - 1}", json.dumps(said))

    def _listen(self, count: int, failures: list[Failure], done: Done | None) -> None:
        jobs = self._published()
        for i in range(count):
            # Waiting inside the store would keep this rank from taking its next job.
            while not self.board.check([f"said {i}"]):
                time.sleep(0.1)
            taken, failed = cast("tuple[int, list[str] | None]", json.loads(self.board.get(f"said {i}")))
            failure = None if failed is None else Failure(jobs[taken], failed[0], failed[1])
            if failure is not None:
                failures.append(failure)
            if done is not None:
                done(jobs[taken], failure)


@lru_cache
def crew() -> Crew | None:
    """Find the other ranks of ``torchrun``.

    Returns:
        The ranks; None for a single process.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    board, rank, size = next(cast("Any", dist).rendezvous("env://"))
    # The first rank may read results for a while before it knows what is missing.
    board.set_timeout(timedelta(hours=1))
    return Crew(rank, size, board)


def speaks() -> bool:
    """Say whether this process prints: it is the first rank, or the only one.

    Returns:
        False on the other ranks of ``torchrun``.
    """
    ranks = crew()
    return ranks is None or ranks.rank == 0
