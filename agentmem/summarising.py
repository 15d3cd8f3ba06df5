"""The summary of what leaves the queue, by the model: its request rides the prefix that the agent's prompts share.

What is to be summarised is the frozen part of the prompt and the oldest turns of the queue, in their own bytes: an
engine has that in its cache already. Behind it stands the instruction. Where nodes of the tree of summaries tell that
in no more tokens, they stand in the place of the turns, behind as much of the frozen part as is still needed. What the
model said is kept by what it was asked: a flush that was interrupted is not paid for twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agentmem import prompts
from agentmem.citing import clean
from agentmem.context import PromptPlan, render
from agentmem.derived import decode, derived_key, encode, text_of
from agentmem.errors import BackendError
from agentmem.parsing import defused, strip_thinking, text_calls
from agentmem.planning import shown_short
from agentmem.protocols import Backend, TokenCounter
from agentmem.queue import content_of, shorten
from agentmem.summary import Summary, told, within, without_model
from agentmem.times import day_words
from agentmem.tokens import cut_text
from agentmem.types import ChatMessage, Message, Request

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.summary_nodes import Cover


class ModelSummariser:
    """Summaries by a backend; when it fails or says nothing, the model-free one, and `report` is told why."""

    def __init__(self, memory: Memory, backend: Backend, report: Callable[[str], None], cache_salt: str | None) -> None:
        self._memory = memory
        self._backend = backend
        self._report = report
        self._salt = cache_salt

    def __call__(  # noqa: D102 (the law is Summarise's)
        self, previous: str, evicted: Sequence[Message], max_tokens: int, counter: TokenCounter,
        ways: Sequence[Cover] = (),
    ) -> Summary:  # fmt: skip
        request = self._riding(evicted, max_tokens) or self._alone(previous, evicted, max_tokens, counter)
        request, nodes = self._shorter(request, ways, max_tokens) if ways else (request, ())
        memory, derived, key = self._memory, self._memory.records.derived, self._key(request)
        clears = derived.clears()
        known = decode(derived.get("summary", key), text_of)
        if known is not None:
            return Summary(within(known, max_tokens, counter), by_model=True, nodes=nodes)
        try:
            completion = self._backend.generate([request])[0]
        except BackendError as e:
            self._report(f"the summary was made without the model: {e.message}")
            return without_model(previous, evicted, max_tokens, counter, ways)
        text, calls = text_calls(strip_thinking(completion.text), request.tools, 0)
        if not text.strip() or calls or completion.tool_calls:
            said = "it called a tool instead" if calls or completion.tool_calls else "it answered with nothing"
            self._report(f"the summary was made without the model: {said}")
            return without_model(previous, evicted, max_tokens, counter, ways)
        summary = Summary(within(clean(text.strip()), max_tokens, counter), by_model=True, nodes=nodes)
        # Not once something was erased meanwhile: it may be told here.
        derived.put("summary", key, encode(summary.text), memory.clock(), since=clears)
        return summary

    def _key(self, request: Request) -> bytes:
        """All that the model's answer depends on."""
        asked = {
            "messages": [m.to_dict() for m in request.messages], "tools": [t.to_dict() for t in request.tools],
            "max_tokens": request.max_tokens, "temperature": request.temperature, "seed": request.seed,
        }  # fmt: skip
        return derived_key("summary", self._backend.name, json.dumps(asked), template=str(prompts.TEMPLATE))

    def _riding(self, evicted: Sequence[Message], max_tokens: int) -> Request | None:
        """The shared prefix up to the last evicted message, then the instruction; None when that does not fit."""
        memory = self._memory
        epoch, _ = memory.pager.state()
        shape = memory.shape
        cuts, bare = shown_short(evicted, memory.budget.entry_tokens, shape.counter)
        plan = PromptPlan(
            epoch.number, evicted[0].id, evicted[-1].id, query=prompts.SUMMARISE_ABOVE.format(words=_words(max_tokens)),
            cuts=tuple(cuts), bare_calls=tuple(bare), mode=shape.mode,
            earlier=len(epoch.compressed),
        )  # fmt: skip
        messages = tuple(w.message() for w in render(plan, epoch, {m.id: m for m in evicted}, ()))
        if shape.counter.count_prompt(messages, shape.tools) + max_tokens > memory.config.window_tokens:
            return None
        return Request(messages, shape.tools, max_tokens=max_tokens, cache_salt=self._salt)

    def _shorter(self, plain: Request, ways: Sequence[Cover], max_tokens: int) -> tuple[Request, tuple[str, ...]]:
        """The request of the first way that reads no more tokens than the `plain` one, and fits; with its nodes."""

        def cost(request: Request) -> int:
            return self._memory.shape.counter.count_prompt(request.messages, request.tools)

        most = min(cost(plain), self._memory.config.window_tokens - max_tokens)
        for way in ways:
            if cost(request := self._of_nodes(way, max_tokens)) <= most:
                return request, way.refs
        return plain, ()

    def _of_nodes(self, way: Cover, max_tokens: int) -> Request:
        """The frozen part (without the summary and what it tells of, where nodes tell that too), then the nodes and the
        turns under none, as records, then the instruction."""
        memory = self._memory
        epoch, _ = memory.pager.state()
        said = {s.node.first: f"{s.node.span}: {s.text}" for s in way.nodes}
        said |= {m.id: self._turn(m) for m in way.left}
        records = "\n".join(" ".join(said[n].split()) for n in sorted(said))
        instruction = prompts.SUMMARISE_NODES.format(
            words=_words(max_tokens), what=prompts.WHAT_LEAVES if way.previous else prompts.ALL_SO_FAR,
            begin=prompts.BEGIN_WITH_PREVIOUS if way.previous else "",
        )  # fmt: skip
        plan = PromptPlan(
            epoch.number, 1, 0, query=f"{prompts.memory_text(defused(records))}\n{instruction}",
            mode=memory.shape.mode, summary=way.previous, earlier=len(epoch.compressed) if way.previous else 0,
        )  # fmt: skip
        messages = tuple(w.message() for w in render(plan, epoch, {}, ()))
        return Request(messages, memory.shape.tools, max_tokens=max_tokens, cache_salt=self._salt)

    def _turn(self, message: Message) -> str:
        """A turn as a record, as long as the queue would show it."""
        plain = replace(message, role="user", name=None, content=message.said, tool_calls=())
        text = content_of(plain, shorten(plain, self._memory.budget.entry_tokens, self._memory.shape.counter))
        return f"{message.ref} {message.name or message.role} ({day_words(message.at)}): {text}"

    def _alone(self, previous: str, evicted: Sequence[Message], max_tokens: int, counter: TokenCounter) -> Request:
        """A prompt of its own, for what does not fit the window: of each part, its beginning."""
        turns = "\n".join(f"{m.name or m.role}: {m.said}" for m in told(evicted))
        room = self._memory.config.window_tokens - max_tokens - 400
        turns = turns[: cut_text(turns, max(200, room // 2), counter)]
        words = _words(max_tokens)
        text = prompts.SUMMARISE.format(words=words, previous=previous or "(none)", turns=turns)
        return Request((ChatMessage("user", text),), max_tokens=max_tokens, cache_salt=self._salt)


def _words(max_tokens: int) -> int:
    return max(20, max_tokens * 3 // 4)
