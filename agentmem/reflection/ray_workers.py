"""Reflection on many agents by actors of Ray, each with a backend of its own (an engine a device, say).

What goes between them is text: JSON. Ray pickles the call around it, which is our own code's.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from agentmem.errors import AgentMemError, BackendError, ConfigError, MissingExtraError
from agentmem.reflection.budget import Budget
from agentmem.reflection.crew import Crew, problem_of, reports_of
from agentmem.reflection.orders import Orders
from agentmem.reflection.outcome import JobReport
from agentmem.reflection.questioning import OnEvent
from agentmem.reflection.share_job import ShareJob
from agentmem.reflection.shares import Ledger, Share
from agentmem.reflection.workers import checked_agents

POLL_S = 0.2
"""Events are fetched so often."""
REACH_S = 10.0
STORE_BYTES = 200_000_000
"""Of shared memory, for a Ray that is started here: what is sent is small."""


def reflect_on_ray(
    address: str,
    work: Sequence[tuple[str | os.PathLike[str], str]],
    orders: Orders | None = None,
    *,
    workers: int,
    gpus_per_worker: float | None = None,
    on_event: OnEvent | None = None,
) -> list[JobReport]:
    """As `agentmem.reflection.workers.reflect_agents`, on Ray; `work` are (file, agent), a report each, in order.

    `address` is of a running Ray ("auto", "HOST:PORT"), or "local" for one of this call's own; a connection that the
    process has is used. An actor takes one CPU, and one GPU where the backend is `vllm:` (`gpus_per_worker`).
    An actor that is lost is replaced, and its agents go on where they were. All of them run on this node, as a file of
    SQLite must not be shared between machines. Raises MissingExtraError, ConfigError (no such Ray; it can't hold one
    worker), and as `reflect_agents` does.
    """
    told = (orders or Orders()).checked()
    agents_of: dict[str, list[str]] = {}
    for db, agent in work:
        agents_of.setdefault(os.fspath(db), []).append(agent)
    paths = {db: checked_agents(db, agents) for db, agents in agents_of.items()}
    if not work:
        return []
    tasks = [{"db": paths[os.fspath(db)], "agent": agent} for db, agent in work]
    with ray_crew(address, told, workers, on_event, gpus_per_worker=gpus_per_worker, here=True) as crew:
        return reports_of(tasks, crew.work(tasks))


@contextmanager
def ray_crew(
    address: str,
    orders: Orders,
    workers: int,
    on_event: OnEvent | None = None,
    *,
    gpus_per_worker: float | None = None,
    here: bool,
) -> Iterator[Crew[Any]]:
    """Actors of the Ray at `address` that work by `orders`, within their one budget; none outlives the block. `here`:
    on this node alone, else wherever the cluster has room."""
    if workers < 1:
        raise ConfigError("workers", workers, "must be at least 1")
    engine = orders.backend is not None and orders.backend.startswith("vllm:")
    gpus = float(engine) if gpus_per_worker is None else gpus_per_worker
    ray, ours = _connected(address, workers)
    try:
        crew = _Actors(ray, workers, orders, gpus, here, on_event)
        try:
            yield crew
        finally:
            crew.end()
    finally:
        if ours:
            ray.shutdown()


def _connected(address: str, workers: int) -> tuple[Any, bool]:
    """(the module, whether this call connected)."""
    try:
        import ray
    except ImportError as e:
        raise MissingExtraError("reflection on Ray", "ray", e.name or "ray") from e
    if address.startswith("ray://"):
        raise ConfigError(
            "ray", address, "a client is not on a node of the cluster, and the files are",
            hint="run it on a node: --ray auto, or --ray HOST:PORT",
        )  # fmt: skip
    if ray.is_initialized():
        return ray, False
    options: dict[str, Any] = {"address": address, "logging_level": "warning", "log_to_driver": False}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # one of our own, which reports to nobody
        options |= {"num_cpus": workers, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        _reach(address)
        ray.init(**options)
    except (OSError, ValueError, RuntimeError) as e:
        hint = "start one (ray start --head), or --ray local"
        raise ConfigError("ray", address, f"can't be reached: {str(e).splitlines()[0]}", hint=hint) from e
    return ray, True


def _reach(address: str) -> None:
    # Ray itself would knock for minutes where nobody is.
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()


class _Desk:
    """Where the workers ask for budget and leave their events."""

    def __init__(self, budget: dict[str, Any]) -> None:
        self._ledger = Ledger(Budget(**budget))
        self._events: list[str] = []

    def may(self, share: int, calls: int, tokens: int) -> str:
        return self._ledger.may(share, calls, tokens)

    def settle(self, share: int, calls: int, tokens: int) -> None:
        self._ledger.settle(share, calls, tokens)

    def tell(self, event: str) -> None:
        self._events.append(event)

    def events(self) -> list[str]:
        found, self._events = self._events, []
        return found


class _Actor:
    """A worker."""

    def __init__(self, number: int, desk: Any) -> None:
        import ray

        self._ray = ray
        self._number = number
        self._desk = desk
        self._told: Any = None
        self._job: ShareJob | None = None

    def open(self, orders: str) -> str:
        told = json.loads(orders)
        try:
            self._job = ShareJob(Orders.of_dict(told), self._tell)
        except AgentMemError as e:
            return json.dumps({"refused": problem_of(e, "backend", told["backend"])})
        return json.dumps({"ready": True})

    def run(self, number: int, tasks: str) -> str:
        assert self._job is not None, "it was not opened"

        def may(calls: int, tokens: int) -> str:
            return str(self._ray.get(self._desk.may.remote(number, calls, tokens)))

        found = self._job.run(json.loads(tasks), may)
        if self._told is not None:
            self._ray.get(self._told)  # so that no event comes after the reports
        return json.dumps(found)

    def close(self) -> None:
        if self._job is not None:
            self._job.close()

    def _tell(self, event: Mapping[str, Any]) -> None:
        self._told = self._desk.tell.remote(json.dumps({**event, "worker": self._number}))


class _Actors(Crew[int]):
    """Workers are numbers. An actor is never restarted by Ray, nor is its call repeated: whose agents were lost, and
    how often, is counted in one place."""

    def __init__(
        self, ray: Any, workers: int, orders: Orders, gpus: float, here: bool, on_event: OnEvent | None
    ) -> None:
        super().__init__(workers, on_event)
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray = ray
        self._orders = json.dumps(orders.to_dict())
        own = ray.get_runtime_context().get_node_id()
        nodes = [n for n in ray.nodes() if n["Alive"] and (n["NodeID"] == own or not here)]
        for name, needed in (("CPU", 1.0), ("GPU", gpus)):
            most = max(n["Resources"].get(name, 0.0) for n in nodes)
            if most < needed:
                where = "this node has" if here else "a node has at most"
                raise ConfigError(
                    "ray", own, f"a worker takes {needed:g} of {name}; {where} {most:g}",
                    hint="ray start with --num-cpus, --num-gpus, or set gpus_per_worker",
                )  # fmt: skip
        place = NodeAffinitySchedulingStrategy(node_id=own, soft=False)
        self._desk = ray.remote(num_cpus=0, scheduling_strategy=place)(_Desk).remote(asdict(orders.budget))
        self._actor = ray.remote(
            num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0,
            scheduling_strategy=place if here else "DEFAULT",
        )(_Actor)  # fmt: skip
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, int] = {}
        self._started = 0

    def start(self) -> int:
        self._started += 1
        actor = self._actors[self._started] = self._actor.remote(self._started, self._desk)
        self._calls[actor.open.remote(self._orders)] = self._started
        return self._started

    def give(self, worker: int, share: Share) -> None:
        tasks = json.dumps([self.tasks[n] for n in share.tasks])
        self._calls[self._actors[worker].run.remote(share.number, tasks)] = worker

    def listen(self) -> None:
        done, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=POLL_S)
        self._tell_events()
        for call in done:
            worker = self._calls.pop(call)
            try:
                heard = json.loads(self._ray.get(call))
            except self._ray.exceptions.RayError as e:
                self._ray.kill(self._actors.pop(worker))
                cause = getattr(e, "cause", None)
                why = f"{type(cause).__name__}: {cause}" if cause is not None else type(e).__name__
                self.lost(worker, f"the Ray actor was lost ({why})")
                continue
            if "results" in heard:
                share = self.at[worker]
                assert share is not None
                self._told("settle", share.number, heard["calls"], heard["tokens"])
                self.did(worker, heard["results"])
            elif "refused" in heard:
                self._ray.kill(self._actors.pop(worker))
                self.refused(worker, heard["refused"])
            else:
                self.ready(worker)

    def _tell_events(self) -> None:
        for text in self._told("events"):
            event = json.loads(text)
            self.happened(event["worker"], event)

    def _told(self, method: str, *values: Any) -> Any:
        try:
            return self._ray.get(getattr(self._desk, method).remote(*values))
        except self._ray.exceptions.RayError as e:
            # Without it nobody knows what was spent.
            raise BackendError(
                f"the actor that counts the budget was lost: {type(e).__name__}",
                hint="what was committed stays; run it again to go on",
            ) from e

    def end(self) -> None:
        """End all actors. Those at work are killed; the others close their backends first."""
        idle = [self._actors[w].close.remote() for w, share in self.at.items() if share is None]
        if idle:
            self._ray.wait(idle, num_returns=len(idle), timeout=10.0)
        for actor in (*self._actors.values(), self._desk):
            self._ray.kill(actor)
