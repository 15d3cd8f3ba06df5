"""A server that forks a child for each job on its standard input, and says how the child ended.

The child works on a memory and is killed: by itself, at the n-th hit of a crash point, or by the server at some moment.
What it has been given back as durable it writes, a line each, into the job's `acks` file. Imported once, forked often:
a kill costs some milliseconds. One job a line: {"job", "db", "acks", "seed", "point", "nth", "kill_after_s", ...}.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

WORDS = (
    "lantern", "harbour", "velvet", "copper", "meadow", "thunder", "ribbon", "walnut", "glacier", "saffron", "compass",
    "orchard", "pepper", "violin", "marble", "falcon", "ginger", "quartz", "willow", "ember", "canyon", "pocket",
)  # fmt: skip
SMALL = {"window_tokens": 400, "keep_last": 2}
WITH_TOOLS = {"window_tokens": 3300, "keep_last": 2, "page_in_max_tokens": 300}


def message(n: int) -> dict[str, str]:
    """Message n of the history: the same in every process."""
    rng = random.Random(f"message {n}")
    said = " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 14)))
    at = datetime(2023, 5, 8, 12, 0, tzinfo=UTC) + timedelta(minutes=n)
    return {
        "id": f"k{n}", "role": "user" if n % 3 else "assistant", "name": ("Anna", "Tom")[n % 2],
        "content": f"Item {n} of batch x{n * 7919:07d}q: {said}.", "at": at.isoformat(),
    }  # fmt: skip


def key_of(n: int) -> str:
    """The key of message n."""
    return f"k{n}"


def make_memory(job: dict[str, Any]) -> Any:
    """A memory over the hashing embedder with a small window."""
    from agentmem.backends.hashing_embedder import HashingEmbedder
    from agentmem.memory import Memory

    settings = WITH_TOOLS if job["job"] == "converse" else SMALL
    return Memory(job["db"], job.get("agent", "default"), embedder=HashingEmbedder(job.get("dim", 64)), **settings)


def acker(path: str) -> Callable[[str], None]:
    """Writes a line that outlives a SIGKILL."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return lambda line: os.write(fd, f"{line}\n".encode()) and None


def ingest(job: dict[str, Any], ack: Callable[[str], None]) -> None:
    """A history in batches; searched once in a while, so that the index follows and its snapshot is written."""
    with make_memory(job) as memory:
        for first in range(job["first"], job["last"] + 1, 24):
            part = range(first, min(first + 24, job["last"] + 1))
            memory.ingest([message(n) for n in part])
            for n in part:
                ack(key_of(n))
            memory.search(message(part[0])["content"], top_k=3)


def observe(job: dict[str, Any], ack: Callable[[str], None]) -> None:
    """One message at a time."""
    with make_memory(job) as memory:
        for n in range(job["first"], job["last"] + 1):
            m = message(n)
            memory.observe(m["role"], m["content"], name=m["name"], at=m["at"], key=m["id"])
            ack(m["id"])
            if n % 5 == 0:
                memory.search(m["content"], top_k=3)


def converse(job: dict[str, Any], ack: Callable[[str], None]) -> None:
    """Turns of an agent that calls tools: insertion and search in one step, core memory, a reply."""
    from agentmem.agent import Agent
    from agentmem.scripted import ScriptedBackend
    from agentmem.types import Completion, Request, ToolCall

    def step(n: int) -> Completion:
        calls = (
            ("archival_memory_insert", {"content": f"Fact {n}: {message(n)['content']}"}),
            ("archival_memory_search", {"query": f"Fact {n}"}),
            ("core_memory_append", {"label": "human", "content": f"Fact {n}."}),
        )
        last = [{"request_heartbeat": True} if i == len(calls) - 1 else {} for i in range(len(calls))]
        made = [ToolCall(f"c{n}_{i}", name, json.dumps({**a, **last[i]})) for i, (name, a) in enumerate(calls)]
        return Completion("", tuple(made), finish_reason="tool_calls")

    with make_memory(job) as memory:
        memory.core["human"].max_tokens = 4000
        for n in range(job["first"], job["last"] + 1):

            def line(request: Request, n: int = n) -> Completion:
                asked = request.tools and request.messages[-1].role == "user"
                return step(n) if asked else Completion(f"Noted {n}.")

            agent = Agent(memory, ScriptedBackend([line] * 9), max_steps=6)
            agent.send(message(n)["content"], at=message(n)["at"])
            ack(f"turn {n}")


def migrate(job: dict[str, Any], ack: Callable[[str], None]) -> None:
    """Open a file that is not there yet."""
    with make_memory(job) as memory:
        memory.observe("user", "First of all.", key="first")
        ack("first")


def erase(job: dict[str, Any], ack: Callable[[str], None]) -> None:
    """Take messages out for good."""
    from agentmem.errors import UnknownNameError

    with make_memory(job) as memory:
        memory.search("open the index", top_k=1)
        for key in job["keys"]:
            try:
                memory.erase(key=key)
            except UnknownNameError:
                pass
            ack(f"erased {key}")


def reembed(job: dict[str, Any], ack: Callable[[str], None]) -> None:
    """Give the whole file vectors of another embedder."""
    from agentmem.backends.hashing_embedder import HashingEmbedder
    from agentmem.indexing import reembed as run
    from agentmem.memory import Memory

    with Memory(job["db"], embedder="none") as memory:
        names = memory.store.agent_names()
        agents = [
            memory.store.agent(n, create=False, now=memory.clock(), notify=lambda _kind, _payload: None) for n in names
        ]
        run(memory.store, agents, HashingEmbedder(job["dim"]), "", memory.clock())
        ack(f"reembedded {job['dim']}")


def import_archive(job: dict[str, Any], ack: Callable[[str], None]) -> None:
    """Take an archive into an agent of its own."""
    from agentmem.archive_file import import_lines

    with make_memory(job) as memory:
        with Path(job["archive"]).open(encoding="utf-8", newline="\n") as lines:
            import_lines(memory, lines)
        ack("imported")
        memory.catch_up()
        memory.search("open the index", top_k=1)


def reflect_job(job: dict[str, Any], ack: Callable[[str], None]) -> None:
    """Reflect by a model that answers from what it was asked, in batches of two."""
    from agentmem.reflection import reflect
    from agentmem.scripted import ScriptedBackend

    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.reflection.toys import Notes, noted

    with make_memory(job) as memory:
        reflect(memory, Notes(), backend=ScriptedBackend([noted] * 999), batch_size=2)
        ack("reflected")


def undo_job(job: dict[str, Any], ack: Callable[[str], None]) -> None:
    """Undo the first job."""
    from agentmem.reflection import undo

    with make_memory(job) as memory:
        undo(memory, "j1")
        ack("undone")


JOBS = {
    "ingest": ingest, "observe": observe, "converse": converse, "migrate": migrate, "erase": erase,
    "reembed": reembed, "import": import_archive, "reflect": reflect_job, "undo": undo_job,
}  # fmt: skip


def run(job: dict[str, Any]) -> None:
    """Carry a job out in this process, with the crash point armed."""
    from agentmem import crashpoints, indexing, ingesting
    from agentmem.store import dense

    dense.SNAPSHOT_MIN_CHANGES, dense.SNAPSHOT_SHARE = job.get("snapshot_every", 4), 0.0
    ingesting.BATCH = indexing.BATCH = 12
    hits = 0

    def hook(name: str) -> None:
        nonlocal hits
        if name == job.get("point"):
            hits += 1
            if hits == job.get("nth", 1):
                os.kill(os.getpid(), signal.SIGKILL)

    crashpoints.install(hook)
    JOBS[job["job"]](job, acker(job["acks"]))


def main() -> None:
    """Serve jobs until the input ends."""
    # All that the children need, so that a fork has it.
    import faiss  # noqa: F401

    from agentmem import agent, archive_file, erasing, indexing, memory, replay, retrieval, scripted  # noqa: F401
    from agentmem.backends import hashing_embedder  # noqa: F401
    from agentmem.reflection import job as _job  # noqa: F401
    from agentmem.reflection import undoing  # noqa: F401
    from agentmem.store import sqlite  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            try:
                run(job)
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        if job.get("kill_after_s") is not None:
            time.sleep(max(0.0, job["kill_after_s"] - (time.monotonic() - started)))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        answer = {
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "seconds": time.monotonic() - started,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
