"""The six memory tools: their schemas, and carrying a call out.

Names and arguments are MemGPT's (arXiv 2310.08560), which models already know. Search results come in pages with the
true total; the ranking of page 0 is kept, so that later pages go on from it whatever was stored meanwhile.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentmem.core_memory import appended, replaced
from agentmem.errors import BlockError, InvalidInputError, UnknownNameError
from agentmem.parsing import FormatProblem, arguments_of
from agentmem.times import format_time, parse_time
from agentmem.tokens import cut_text
from agentmem.tool_specs import BY_NAME, SPECS, WRITES
from agentmem.types import Tier, ToolCall

if TYPE_CHECKING:
    from agentmem.memory import Memory

__all__ = ["SPECS", "ToolResult", "Toolbox"]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call gave back: the text for the model, whether it failed, whether the model is to be asked again.

    `message` is what `send_message` said.
    """

    text: str
    failed: bool = False
    heartbeat: bool = False
    message: str | None = None


class Toolbox:
    """Carries calls out on one memory, within the caller's transaction. `read_only` refuses the writing ones."""

    def __init__(self, memory: Memory, *, sources: tuple[str, ...] = (), read_only: bool = False) -> None:
        self._memory = memory
        self._sources = sources
        self._read_only = read_only

    def run(self, call: ToolCall) -> ToolResult:
        """Carry one call out. What goes wrong on the model's side is a failed result, which forces a heartbeat."""
        values = arguments_of(call, BY_NAME)
        if isinstance(values, FormatProblem):
            return _failed(values.text)
        heartbeat = bool(values.pop("request_heartbeat", False))
        if self._read_only and call.name in WRITES:
            return _failed("memory is read-only for this question: nothing was changed; answer without it")
        run: Callable[..., ToolResult] = getattr(self, f"_{call.name}")
        try:
            result = run(**values)
        except (BlockError, InvalidInputError, UnknownNameError) as e:
            return _failed(str(e))
        return ToolResult(result.text, heartbeat=heartbeat, message=result.message)

    def _send_message(self, message: str) -> ToolResult:
        if not message.strip():
            raise InvalidInputError("message", message, "is empty")
        return ToolResult('{"status": "OK"}', message=message)

    def _core_memory_append(self, label: str, content: str) -> ToolResult:
        core = self._memory.core
        block = core.block(label)
        return self._edited(appended(block, content, core.counter), "append", block.value)

    def _core_memory_replace(self, label: str, old_content: str, new_content: str) -> ToolResult:
        core = self._memory.core
        block = core.block(label)
        return self._edited(replaced(block, old_content, new_content, core.counter), "replace", block.value)

    def _edited(self, block: Any, op: str, before: str) -> ToolResult:
        self._memory.core.store(block, op, before, actor="tool")
        return _ok({"status": "OK", "label": block.label, "value": block.value})

    def _archival_memory_insert(self, content: str, tags: list[str] | None = None) -> ToolResult:
        passage = self._memory.archive(content, tags=tags or (), sources=self._sources)
        return _ok({"status": "OK", "id": passage.ref})

    def _conversation_search(
        self, query: str, start_date: str | None = None, end_date: str | None = None, page: int = 0
    ) -> ToolResult:
        filters: dict[str, Any] = {"tier": Tier.RECALL}
        if start_date:
            filters["since"] = parse_time(start_date, "start_date")
        if end_date:
            end = parse_time(end_date, "end_date")
            # A day without a time means all of it.
            filters["until"] = end.replace(hour=23, minute=59, second=59) if len(end_date.strip()) <= 10 else end
        return self._search("conversation_search", query, page, filters)

    def _archival_memory_search(self, query: str, tags: list[str] | None = None, page: int = 0) -> ToolResult:
        return self._search("archival_memory_search", query, page, {"tier": Tier.ARCHIVAL, "tags": tuple(tags or ())})

    def _search(self, tool: str, query: str, page: int, filters: Mapping[str, Any]) -> ToolResult:
        from agentmem.retrieval import Filter

        memory = self._memory
        size = memory.config.page_size
        what = json.dumps([query, sorted((k, str(v)) for k, v in filters.items())])
        name = f"{tool}:{hashlib.sha256(what.encode()).hexdigest()[:16]}"
        kept = memory.records.journal.get_cursor(name) if page > 0 else None
        if kept is None:
            found = memory.find(query, top_k=None, where=Filter(**filters), asked_at=memory.clock(), exhaustive=True)
            kept = {"refs": [*(h.id for h in found.hits), *found.rest]}
            if not self._read_only:
                with memory.store.write():
                    memory.records.journal.put_cursor(name, kept, memory.clock())
        refs = kept["refs"][page * size : (page + 1) * size]
        rows = [self._row(ref) for ref in refs]
        total = len(kept["refs"])
        pages = max(1, -(-total // size))
        if not rows:
            return _ok({"results": [], "total": total, "page": page, "pages": pages, "note": "No results found."})
        return _ok({"results": [r for r in rows if r], "total": total, "page": page, "pages": pages})

    def _row(self, ref: str) -> dict[str, Any] | None:
        memory = self._memory
        if ref.startswith("m"):
            found = memory.records.recall.get([int(ref[1:])])
            if not found:
                return None
            m = found[0]
            return {"id": m.key or m.ref, "at": format_time(m.at), "who": m.name or m.role, "text": self._short(m.said)}
        passages = memory.records.archival.get([int(ref[1:])])
        if not passages:
            return None
        p = passages[0]
        return {
            "id": p.key or p.ref,
            "at": format_time(p.valid_from),
            "tags": list(p.tags),
            "text": self._short(p.text),
        }

    def _short(self, text: str) -> str:
        most = max(24, self._memory.budget.entry_tokens // 2)
        length = cut_text(text, most, self._memory.shape.counter)
        return text if length == len(text) else f"{text[:length]} [... {len(text) - length} characters left out]"


def _ok(value: Mapping[str, Any]) -> ToolResult:
    return ToolResult(json.dumps(value, ensure_ascii=False))


def _failed(text: str) -> ToolResult:
    return ToolResult(json.dumps({"status": "Failed", "message": text}, ensure_ascii=False), True, True)
