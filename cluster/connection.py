"""The head's job server: asked patiently, since heads restart and connections break."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from cluster.client import connect
from cluster.faults import HeadError, is_away, is_taken, is_unknown, still_runs, who_are_you, words

SILENCE: Final = 60.0  # s without a line after which the log is asked for anew: a dead connection is silent as well
START_TRIES: Final = 40  # 3 s apart: a head that has only just started has no agent for jobs yet
CLOSED, SILENT, BROKEN = "closed", "silent", "broken"  # a log: to its end, as far as it goes for now, not at all
PAUSE: Final = 2.0  # s between two looks for a head that is away
# Ray watches a job for a while after its end: it writes down a state once more, and ends what bears its name by then
SETTLE: Final = 5.0  # s
JUST_NOW: Final = 60.0  # s since the end, by two clocks
T = TypeVar("T")


@dataclass
class Head:
    """The job server at `address` (http://HOST:PORT).

    A call that finds it away is made again for up to `patience` seconds; the first one too only where it is `awaited`.
    """

    address: str
    patience: float
    awaited: bool = False
    _client: Any = field(default=None, init=False)
    _printed: dict[str, int] = field(default_factory=dict, init=False)  # characters of each job's log

    def ask(self, call: Callable[[Any], T]) -> T:
        """`call(client)`. Raises HeadError: no answer, or a refused token."""
        from ray.exceptions import AuthenticationError

        begun = 0.0
        while True:
            try:
                if self._client is None:
                    self._client = connect(self.address)
                return call(self._client)
            except AuthenticationError as error:
                raise HeadError(who_are_you(self.address, error)) from error
            except Exception as error:
                if not is_away(error):
                    raise
                begun = self._wait(begun, error)

    def _wait(self, begun: float, error: Exception) -> float:
        """Sleep a little; when the waiting began. Raises HeadError after the last of the patience."""
        patience = self.patience if self._client or self.awaited else 0.0
        now = time.monotonic()
        if not begun and patience:
            print(f"submit: no answer from {self.address} ({words(error)}); waiting up to {patience:.0f} s", flush=True)
        begun = begun or now
        if now - begun >= patience:
            waited = f" for {patience:.0f} s" if patience else ""
            raise HeadError(
                f"no job server answers at {self.address}{waited} ({words(error)}); start one with `ray start --head "
                "--dashboard-host 127.0.0.1`, or give the address of one that runs (http://HOST:8265)"
            )
        time.sleep(PAUSE)
        return begun

    def job(self, name: str) -> Any:
        """What Ray knows of a job; None where it knows none."""

        def look(client: Any) -> Any:
            try:
                return client.get_job_info(name)
            except RuntimeError as error:
                if is_unknown(error):
                    return None
                raise

        return self.ask(look)

    def start(self, name: str, command: str, environment: dict[str, Any]) -> None:
        """Hand a job over; nothing happens where one of that name was taken in already. Raises HeadError: refused."""
        for attempt in range(1, START_TRIES + 1):
            try:
                self.ask(lambda c: c.submit_job(entrypoint=command, submission_id=name, runtime_env=environment))
                return
            except RuntimeError as error:  # what Ray raises for every refusal
                if is_taken(error):  # an earlier try arrived, its answer did not
                    return
                if "No available agent" not in str(error) or attempt == START_TRIES:
                    raise HeadError(f"the head refused job {name}: {words(error)}") from error
                time.sleep(3)

    def forget(self, name: str) -> None:
        """Let a job that has ended make way for one of the same name, whose log Ray writes into the same file."""
        found = self.job(name)
        if found is None:
            self._printed[name] = 0
            return
        if found.status.is_terminal() and abs(time.time() - (found.end_time or 0) / 1000) < JUST_NOW:
            time.sleep(SETTLE)
        try:
            self._printed[name] = len(self.ask(lambda client: client.get_job_logs(name)))
            self.ask(lambda client: client.delete_job(name))
        except RuntimeError as error:  # another submitter was here first: it is gone, or runs anew
            if not is_unknown(error) and not still_runs(error):
                raise

    def stop(self, name: str) -> None:
        """Ask a job to end; nothing happens where there is none, as after a restart of its head."""
        try:
            self.ask(lambda client: client.stop_job(name))
        except RuntimeError as error:
            if not is_unknown(error):
                raise

    def follow(self, name: str) -> Any:
        """Print what is new in the log of a job until it has ended, no line twice; its state, None if it is unknown.

        Raises HeadError: the head answers, but has given nothing of a log for all of the patience, as when the part of
        it dies that runs jobs. Of a job that has ended the state is returned then.
        """
        lost: float | None = None  # since when
        while True:
            log = asyncio.run(self._tail(name))
            found = self.job(name)
            if found is None or (log == CLOSED and found.status.is_terminal()):
                return found
            over = found.status.is_terminal()
            well = str(found.status) == "PENDING" or (log != BROKEN and not over)
            lost = None if well else lost or time.monotonic()
            if lost is not None and time.monotonic() - lost > self.patience:
                if over:
                    return found
                raise HeadError(
                    f"the head at {self.address} answers, but gave no log of job {name} for {self.patience:.0f} s: "
                    "what runs its jobs is gone; restart the head, then submit again"
                )
            time.sleep(PAUSE)

    async def _tail(self, name: str) -> str:
        """Print what is new in a job's log, which comes from its start; how it came to an end."""
        lines, at = self._client.tail_job_logs(name), 0
        try:
            while True:
                try:
                    async with asyncio.timeout(SILENCE):  # wait_for of Python 3.11 loses an interrupt beside a line
                        text = await anext(lines)
                except StopAsyncIteration:
                    return CLOSED
                printed = self._printed.get(name, 0)
                fresh = text[max(0, printed - at) :]
                at += len(text)
                self._printed[name] = max(printed, at)
                if fresh:
                    print(fresh, end="", flush=True)
        except Exception as error:
            if not is_away(error) and not isinstance(error, RuntimeError):
                raise
            return SILENT if at or isinstance(error, TimeoutError) else BROKEN
        finally:
            await lines.aclose()
