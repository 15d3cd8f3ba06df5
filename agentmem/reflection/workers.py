"""Reflection on many agents by several processes of one machine.

Each worker has its own connection to the file and its own backend; they write one after the other. What goes between
the processes is JSON, sent as bytes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from agentmem import registry
from agentmem.errors import AgentMemError, ConfigError, UnknownNameError
from agentmem.reflection.crew import Crew, problem_of, reports_of
from agentmem.reflection.orders import Orders
from agentmem.reflection.outcome import JobReport
from agentmem.reflection.questioning import OnEvent
from agentmem.reflection.share_job import ShareJob
from agentmem.reflection.shares import Ledger, Share

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

END_S = 10.0
"""A worker has so long to close its backend."""


def reflect_agents(
    db: str | os.PathLike[str],
    agents: Sequence[str],
    orders: Orders | None = None,
    *,
    workers: int,
    on_event: OnEvent | None = None,
) -> list[JobReport]:
    """`reflect` on agents of one file by `workers` processes that work by `orders` (None: those of `Orders()`); a
    report each, in the agents' order.

    The budget holds over all workers: it is counted here. Agents are dealt in small shares; those of a worker that is
    killed are given to another, twice at most, and go on where they were. Events are those of `reflect`, with "worker"
    (a number) in each and what was spent counted over the run, and "worker_lost". `on_event` is called in this process.

    A process is begun anew ("spawn"): a script that calls this needs its `if __name__ == "__main__":`. Each worker
    makes the backend itself: `openai:` shares one server, `hf:` loads the weights once a worker, `vllm:` claims the
    device for one process and is refused with more. Raises ConfigError, UnknownNameError for an agent that is not
    there, and BackendError when no worker can make the backend; an agent that can't be worked on is "stopped" in its
    report, with the reason.
    """
    told = (orders or Orders()).checked()
    path = checked_agents(db, agents)
    if not agents:
        return []
    tasks = [{"db": path, "agent": agent} for agent in agents]
    with process_crew(told, workers, on_event) as crew:
        return reports_of(tasks, crew.work(tasks))


@contextmanager
def process_crew(orders: Orders, workers: int, on_event: OnEvent | None = None) -> Iterator[Crew[Any]]:
    """Processes of this machine that work by `orders`, within their one budget; none outlives the block."""
    if workers < 1:
        raise ConfigError("workers", workers, "must be at least 1")
    if orders.backend is not None and orders.backend.startswith("vllm:") and workers > 1:
        raise ConfigError(
            "workers", workers, "an engine of vLLM claims its device for one process",
            hint="one worker (the engine batches over all agents), or one server for all: "
            "agentmem serve-model, then --backend openai:http://127.0.0.1:8000/v1",
        )  # fmt: skip
    crew = _Processes(workers, orders, on_event)
    try:
        yield crew
    except BaseException:
        crew.end(now=True)
        raise
    crew.end(now=False)


def checked_agents(db: str | os.PathLike[str], agents: Sequence[str]) -> str:
    """The file's path for workers. Raises ConfigError and UnknownNameError, and what opening the file raises."""
    path = os.fspath(db)
    if path == ":memory:":
        raise ConfigError("db", path, "a memory in RAM belongs to one process", hint="give a file, or use `reflect`")
    if len(set(agents)) < len(agents):
        raise ConfigError("agents", list(agents), "one is named twice")
    store: Any = registry.load(registry.STORE)(path, create=False)
    try:
        known = store.agent_names()
    finally:
        store.close()
    for agent in agents:
        if agent not in known:
            raise UnknownNameError("agent", agent, known)
    return os.path.abspath(path)


class _Worker:
    def __init__(self, number: int, pipe: Connection, process: SpawnProcess) -> None:
        self.number, self.pipe, self.process = number, pipe, process

    def send(self, told: Mapping[str, Any]) -> None:
        try:
            self.pipe.send_bytes(json.dumps(told).encode())
        except OSError:
            return  # it is gone, which is heard next


class _Processes(Crew[_Worker]):
    def __init__(self, workers: int, orders: Orders, on_event: OnEvent | None) -> None:
        super().__init__(workers, on_event)
        self._orders = orders
        self._ledger = Ledger(orders.budget)
        self._context = multiprocessing.get_context("spawn")  # a fork would take locks along that others hold
        self._started = 0

    def start(self) -> _Worker:
        self._started += 1
        ours, its = self._context.Pipe()
        # No daemon: a backend may have processes of its own.
        process = self._context.Process(
            target=_serve, args=(its, json.dumps(self._orders.to_dict())), name=f"reflection-{self._started}"
        )
        process.start()
        its.close()  # so that its end is heard when it ends
        return _Worker(self._started, ours, process)

    def give(self, worker: _Worker, share: Share) -> None:
        worker.send({"share": [self.tasks[n] for n in share.tasks]})

    def listen(self) -> None:
        by_pipe: dict[Any, _Worker] = {w.pipe: w for w in (*self.at, *self.starting)}
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[pipe]
            try:
                heard = json.loads(worker.pipe.recv_bytes())
            except (EOFError, OSError):
                self._gone(worker)
                continue
            self._heard(worker, heard)

    def _heard(self, worker: _Worker, heard: Mapping[str, Any]) -> None:
        share = self.at.get(worker)
        if "event" in heard:
            self.happened(worker, {**heard, "worker": worker.number})
        elif "may" in heard:
            assert share is not None
            worker.send({"limit": self._ledger.may(share.number, *heard["may"])})
        elif "results" in heard:
            assert share is not None
            self._ledger.settle(share.number, heard["calls"], heard["tokens"])
            self.did(worker, heard["results"])
        elif "refused" in heard:
            self.refused(worker, heard["refused"])
            worker.pipe.close()
            worker.process.join()
        else:
            self.ready(worker)

    def _gone(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"was killed by {_signal(-code)}" if code < 0 else f"ended with exit code {code}"
        self.lost(worker, f"the worker process {how}")

    def end(self, *, now: bool) -> None:
        """End all workers: when they are done, or at once."""
        workers = [*self.at, *self.starting]
        for w in workers:
            if now:
                w.process.terminate()
            else:
                w.send({"stop": True})
        for w in workers:
            w.process.join(END_S)
            if w.process.is_alive():
                w.process.kill()
                w.process.join()
            w.pipe.close()
            w.process.close()


def _signal(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _outlived() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(pipe: Connection, orders: str) -> None:
    """A worker process: shares in, reports out, until it is told to stop or its parent is gone."""
    # Ctrl-C reaches all processes of a terminal: the parent ends its workers. A backend is closed either way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    threading.Thread(target=_outlived, daemon=True).start()

    def send(told: Mapping[str, Any]) -> None:
        pipe.send_bytes(json.dumps(told).encode())

    def heard() -> Any:
        return json.loads(pipe.recv_bytes())

    def may(calls: int, tokens: int) -> str:
        send({"may": [calls, tokens]})
        return str(heard()["limit"])

    told = json.loads(orders)
    try:
        try:
            job = ShareJob(Orders.of_dict(told), send)
        except AgentMemError as e:
            send({"refused": problem_of(e, "backend", told["backend"])})
            return
        try:
            send({"ready": True})
            while "share" in (given := heard()):
                send(job.run(given["share"], may))
        finally:
            job.close()
    except (EOFError, BrokenPipeError):
        return  # the parent is gone; what was committed stays
