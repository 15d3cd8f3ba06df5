"""agentmem: a memory for language-model agents that outlives their context window.

from agentmem import Agent, Memory

with Memory("anna.db", agent="anna") as memory:
    memory.observe("user", "My sister Anna moved to Lisbon.", name="Tom")
    print(Agent(memory).send("Where does Anna live?").text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.5.0"

if TYPE_CHECKING:
    from agentmem.agent import Agent
    from agentmem.asynchronous import AsyncAgent
    from agentmem.config import AgentConfig, MemoryConfig
    from agentmem.errors import AgentMemError
    from agentmem.memory import Memory
    from agentmem.pool import AgentPool
    from agentmem.reflection.job import reflect
    from agentmem.reports import IngestReport
    from agentmem.types import Citation, Draft, Hit, Message, Page, Passage, Prompt, Reply, ReplyChunk

# Resolved at first use, so that importing the package costs nothing.
_HOMES = {
    "Agent": "agent",
    "AgentConfig": "config",
    "AgentMemError": "errors",
    "AgentPool": "pool",
    "AsyncAgent": "asynchronous",
    "Citation": "types",
    "Draft": "types",
    "Hit": "types",
    "IngestReport": "reports",
    "Memory": "memory",
    "MemoryConfig": "config",
    "Message": "types",
    "Page": "types",
    "Passage": "types",
    "Prompt": "types",
    "Reply": "types",
    "ReplyChunk": "types",
    "reflect": "reflection.job",
}

__all__ = [
    "Agent",
    "AgentConfig",
    "AgentMemError",
    "AgentPool",
    "AsyncAgent",
    "Citation",
    "Draft",
    "Hit",
    "IngestReport",
    "Memory",
    "MemoryConfig",
    "Message",
    "Page",
    "Passage",
    "Prompt",
    "Reply",
    "ReplyChunk",
    "reflect",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"agentmem.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'agentmem' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
