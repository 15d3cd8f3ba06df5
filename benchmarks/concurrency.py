"""Many agents at once on one server: how much of the server's throughput reaches them through agentmem's pool.

Arms, in turn within each round: `pool` (`AgentPool.send`, each turn with its prompt, page-in, commits and all), `pool,
interruptible` (the same with streamed model calls, so that a cancelled turn frees its request at once), and `direct`:
the very requests that the pool sent in this round, recorded on the wire, sent again by plain httpx with the same number
at once, each agent's in order. Each arm of each round has a cache salt of its own: all begin with a cold prefix cache
and warm it in the same way. Completion tokens per second, over those of `direct`; goal: at least 0.9.

The server is a real vLLM: `--url`, or one that is started here on a tiny random model (`--python` names the interpreter
that has vLLM). A tiny model on the processor is the hard case: it answers in milliseconds, and on a small machine the
server, its tokenizer and the agents share the cores. `by work` is the same ratio from processor seconds of server and
client for a token: what it would be if nothing else ran and no core were ever idle; a busy machine disturbs it less.
`agent ms` is processor time of this process for a request beyond what sending it costs; that, not a ratio, carries over
to other machines.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentmem import Memory
from agentmem.pool import AgentPool
from benchmarks import machine
from benchmarks.served import Server, serve

TOPICS = ("the harbour", "the ferry", "a red bicycle", "the garden", "her sister", "the blue pot", "a winter coat")
GOAL = 0.9
KEEP_S = 2.0  # uvicorn closes an idle connection after 5 s: one must not be taken up again just then


@dataclass
class Run:
    """What an arm did in a round."""

    seconds: float
    worked_s: float
    served_s: float
    tokens: int
    requests: int

    @property
    def work_s(self) -> float:
        """Processor seconds of both sides for a token."""
        return (self.worked_s + self.served_s) / self.tokens


@dataclass
class Arm:
    """One arm's runs."""

    name: str
    runs: list[Run] = field(default_factory=list)

    def rate(self, n: int) -> float:
        """Completion tokens per second of round n."""
        return self.runs[n].tokens / self.runs[n].seconds


class Recorder:
    """What goes over the wire to /chat/completions."""

    def __init__(self, concurrency: int) -> None:
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=concurrency, keepalive_expiry=KEEP_S)
        recorder = self

        class Transport(httpx.HTTPTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                if request.url.path.endswith("/chat/completions"):
                    recorder.keep(request.read())
                return super().handle_request(request)

        self.transport = Transport(limits=limits)
        self._contents: list[bytes] = []
        self._lock = threading.Lock()

    def keep(self, content: bytes) -> None:
        """Note one request; read later, as that would be work of the arm that is measured."""
        with self._lock:
            self._contents.append(content)

    def sent(self) -> list[list[dict[str, Any]]]:
        """The requests of each agent, in order, by the agent that their user messages name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for content in self._contents:
            body = json.loads(content)
            said = "\n".join(m["content"] for m in body["messages"] if m["role"] == "user")
            if named := re.findall(r"Agent \d+, turn", said):  # those by which the backend tries the server out: none
                found.setdefault(named[-1], []).append(body)
        return list(found.values())


def talk(options: argparse.Namespace, server: Server, salt: str, *, interruptible: bool) -> tuple[Run, Recorder]:
    """One round of the pool's arm: every agent is told all its texts at once, and each answers in order."""
    from agentmem.backends.openai_http import OpenAIBackend

    recorder = Recorder(options.concurrent)
    backend = OpenAIBackend(
        f"{server.url}#{server.model}", concurrency=options.concurrent, tokenizer=options.tokenizer or server.tokenizer,
        transport=recorder.transport,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, ExitStack() as stack:
        memories, drawn = [], random.Random(options.seed)
        for n in range(options.agents + 1):
            path = Path(folder) / ("all.db" if options.one_file else f"{n}.db")
            # Replies of different lengths: else all end at once, and server and clients wait for each other by turns.
            reply = drawn.randint(options.max_tokens // 2, options.max_tokens * 3 // 2)
            memories.append(Memory(path, f"agent {n}", embedder=options.embedder, reserve_tokens=reply))
            stack.callback(memories[-1].close)
        pool = AgentPool(backend, max_concurrent=options.concurrent, max_waiting=options.turns,
                         interruptible=interruptible)  # fmt: skip
        stack.callback(pool.close)
        agents = [pool.agent(memory, cache_salt=salt) for memory in memories]
        # The last one goes before: its request leaves the beginning that all prompts share in the server's cache.
        pool.submit(agents.pop(), f"Agent {options.agents}, turn 0: hello").result()
        begun, worked, served = time.perf_counter(), time.process_time(), server.worked_s()
        turns = [
            pool.submit(agent, f"Agent {n}, turn {t}: what of {TOPICS[(n + t) % len(TOPICS)]}?")
            for t in range(options.turns)
            for n, agent in enumerate(agents)
        ]
        tokens = sum(turn.result().usage.completion_tokens for turn in turns)
        seconds, worked = time.perf_counter() - begun, time.process_time() - worked
        served = server.worked_s() - served
    return Run(seconds, worked, served, tokens, sum(map(len, recorder.sent())) - 1), recorder


def repeat(server: Server, recorder: Recorder, salt: str, concurrent: int) -> Run:
    """The recorded requests, sent again without agentmem: a thread for each agent's, as in the pool."""
    import httpx

    lines = [
        [json.dumps({k: v for k, v in body.items() if k != "stream_options"} | changed).encode() for body in bodies]
        for changed in [{"cache_salt": salt, "stream": False}]
        for bodies in recorder.sent()
    ]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=concurrent, keepalive_expiry=KEEP_S)
    url, headers = f"{server.url}/chat/completions", {"Content-Type": "application/json"}
    with (
        httpx.Client(timeout=600, limits=limits, headers=headers, trust_env=False) as client,
        ThreadPoolExecutor(concurrent) as threads,
    ):

        def send(bodies: Sequence[bytes]) -> int:
            answers = (client.post(url, content=body).raise_for_status().json() for body in bodies)
            return sum(answer["usage"]["completion_tokens"] for answer in answers)

        first, *rest = lines  # the pool's first one went before as well
        send(first)
        begun, worked, served = time.perf_counter(), time.process_time(), server.worked_s()
        tokens = sum(threads.map(send, rest))
        seconds, worked = time.perf_counter() - begun, time.process_time() - worked
        served = server.worked_s() - served
    return Run(seconds, worked, served, tokens, sum(map(len, rest)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = machine.parser(__doc__)
    parser.add_argument("--url", help="of a vLLM server, http://host:port/v1#model (else one is started)")
    parser.add_argument(
        "--tokenizer", help="the model's folder, to count tokens here (of a server started here: known)"
    )
    parser.add_argument("--python", help="the interpreter that has vLLM (this one)")
    parser.add_argument("--agents", type=int, default=64, help="agents (64)")
    parser.add_argument("--concurrent", type=int, default=64, help="turns at once (64)")
    parser.add_argument("--turns", type=int, default=3, help="of each agent in a round (3)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds, after one that is not (5)")
    parser.add_argument(
        "--max-tokens", type=int, nargs="+", default=[64, 256], help="of a reply, on average (64 and 256)"
    )
    parser.add_argument("--embedder", default="none", help="a spec (none: what embedding costs is another matter)")
    parser.add_argument("--one-file", action="store_true", help="all agents in one SQLite file")
    parser.add_argument("--folder", type=Path, help="where the files go, in a folder of their own that is deleted")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with serve(options) as server:
        for max_tokens in options.max_tokens:
            settings = argparse.Namespace(**{**vars(options), "max_tokens": max_tokens})
            rows += measure(settings, server)
    worst = min(r["over direct"] for r in rows if r["arm"] == "pool")
    said = "met" if worst >= GOAL else "NOT met"
    note = (
        f"{options.agents} agents, {options.concurrent} at once, {options.turns} turns each, medians of"
        f" {options.rounds} rounds with the least and the most; seed {options.seed}; embedder {options.embedder},"
        f" {'one file' if options.one_file else 'a file each'}; server: {server.what}."
        f" pool over direct, the least median: {worst:.2f}; goal {GOAL}: {said}"
    )
    machine.show(options, rows, goal=GOAL, met=worst >= GOAL, note=note)


def measure(options: argparse.Namespace, server: Server) -> list[dict[str, Any]]:
    """All rounds with one length of reply."""
    direct, plain, live = Arm("direct"), Arm("pool"), Arm("pool, interruptible")
    for n in range(options.rounds + 1):
        salt = f"{options.seed}-{options.max_tokens}-{n}-{time.time_ns()}"
        run, recorder = talk(options, server, f"{salt}-p", interruptible=False)
        # Another order each time: none always meets the machine as the one before it left it.
        rest = [
            (direct, lambda r=recorder, s=salt: repeat(server, r, f"{s}-d", options.concurrent)),
            (live, lambda s=salt: talk(options, server, f"{s}-l", interruptible=True)[0]),
        ]
        runs = [(plain, run)] + [(arm, do()) for arm, do in (rest if n % 2 else rest[::-1])]
        if n == 0:
            continue
        for arm, run in runs:
            arm.runs.append(run)
        machine.say(options, f"{options.max_tokens} tokens, round {n}: "
                    + ", ".join(f"{a.name} {a.rate(-1):.0f} tokens/s" for a in (direct, plain, live)))  # fmt: skip
    rows = []
    for arm in (direct, plain, live):
        ratios = [arm.rate(n) / direct.rate(n) for n in range(options.rounds)]
        more = [
            1000 * (a.worked_s / a.requests - d.worked_s / d.requests)
            for a, d in zip(arm.runs, direct.runs, strict=True)
        ]
        rows.append({
            "mean reply": options.max_tokens, "arm": arm.name,
            "tokens/s": round(statistics.median(arm.rate(n) for n in range(options.rounds))),
            "over direct": statistics.median(ratios), "least": min(ratios), "most": max(ratios),
            "requests": arm.runs[-1].requests, "tokens": arm.runs[-1].tokens,
            "agent ms": statistics.median(more),
            **({"by work": statistics.median(d.work_s / a.work_s for a, d in zip(arm.runs, direct.runs, strict=True))}
               if direct.runs[-1].served_s else {}),
        })  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
