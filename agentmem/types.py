"""The values that flow through agentmem: frozen, without behaviour beyond their own shape.

Times are `datetime` as the caller gave them; one without a zone is read as UTC when two are compared
(see `agentmem.times`). Record ids are per agent: `m12` is message 12, `p3` is passage 3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from agentmem.chat import ChatMessage as ChatMessage
from agentmem.chat import Role as Role
from agentmem.chat import ToolCall as ToolCall
from agentmem.chat import ToolSpec as ToolSpec
from agentmem.compression import Spans, shown

if TYPE_CHECKING:
    from agentmem.encoding import PrefixReport

InputType = Literal["query", "document"]
SECTIONS = ("system", "core", "summary", "compressed", "queue", "tail", "template")


def number_of(ref: str, letter: str) -> int:
    """The number in a ref of a tier ("m12" of "m" is 12); 0 for what is none, as no record has that number."""
    digits = ref[1:]  # not to int() alone: it takes other digits, and raises on thousands of them
    return int(digits) if ref[:1] == letter and digits.isascii() and digits.isdigit() and len(digits) < 18 else 0


class Tier(StrEnum):
    """Where a hit lives: recall storage (messages) or archival storage (passages)."""

    RECALL = "recall"
    ARCHIVAL = "archival"


class Pressure(StrEnum):
    """How full the prompt is: nothing to do, warn the model, or flush."""

    NONE = "none"
    WARN = "warn"
    FLUSH = "flush"


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that has not been stored yet; `at=None` means now."""

    role: Role
    content: str
    name: str | None = None
    at: datetime | None = None
    key: str | None = None
    session: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    derived: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message of recall storage. `id` counts up per agent and is never used twice.

    `derived`: it repeats what memory holds (a quotation by the extractive backend) and is never found by a search.
    """

    id: int
    role: Role
    content: str
    at: datetime
    stored_at: datetime
    name: str | None = None
    key: str | None = None
    session: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    derived: bool = False

    @property
    def ref(self) -> str:
        """The id as hits, tools and citations print it."""
        return f"m{self.id}"

    @property
    def said(self) -> str:
        """What was said: the content, and what calls of `send_message` said."""
        parts = [self.content]
        for call in self.tool_calls:
            if call.name == "send_message":
                with suppress(ValueError, AttributeError, RecursionError):
                    parts.append(str(json.loads(call.arguments).get("message", "")))
        # An escaped half of a surrogate pair is JSON, and no text.
        return "\n".join(p for p in parts if p).encode("utf-8", "replace").decode("utf-8")

    @property
    def searchable(self) -> bool:
        """What was said is found; tool traffic, notes and quotations are not: recalled text was not said again."""
        return self.role in ("user", "assistant") and not self.derived and bool(self.said.strip())


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage of archival storage, with the time in which it holds and what it came from."""

    id: int
    text: str
    stored_at: datetime
    valid_from: datetime
    valid_to: datetime | None = None
    superseded_by: int | None = None
    key: str | None = None
    kind: str = "fact"
    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """The id as hits, tools and citations print it."""
        return f"p{self.id}"


@dataclass(frozen=True, slots=True)
class Block:
    """One block of core memory; `max_tokens` is in the backend's tokens."""

    label: str
    value: str
    max_tokens: int
    read_only: bool = False
    version: int = 1
    description: str = ""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A message of the compressed history: its line as it stands in the prompt, under its day; `whole` when nothing of
    what was said is left out of it."""

    message: int
    day: str
    line: str
    key: str | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Epoch:
    """The frozen part of the prompt between two flushes.

    `first_message` is the id of the first message in the queue; `summary` covers the ids
    `summary_from` to `summary_to`, both included (0 and 0: nothing yet); `compressed` are the newest of those, short.
    """

    number: int
    first_message: int
    summary: str
    summary_from: int
    summary_to: int
    blocks: tuple[Block, ...]
    started_at: datetime
    compressed: tuple[Earlier, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result. `score` compares within one query only, higher is better.

    `parts` (with `explain=True`) holds the raw signals: `cosine` in [-1, 1], `bm25` >= 0, and the rest.
    `source` lists the records that a passage was derived from. `dated`: `at` is the time that was given for it; False
    for a passage of which none is known, whose `at` is when it was stored.
    """

    id: str
    tier: Tier
    text: str
    score: float
    at: datetime
    key: str | None = None
    name: str | None = None
    role: str | None = None
    session: str | None = None
    source: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    parts: Mapping[str, float] | None = None
    dated: bool = True


@dataclass(frozen=True, slots=True)
class PageItem:
    """A hit that was paged in: the characters `start` to `end` of its text stand in the page; where it was compressed,
    only the `spans` in between, each (start, end)."""

    hit: Hit
    start: int
    end: int
    spans: Spans = ()

    @classmethod
    def short(cls, hit: Hit, spans: Spans) -> PageItem:
        """A hit of which only some spans stand in the page."""
        return cls(hit, spans[0][0], spans[-1][1], spans)

    @property
    def text(self) -> str:
        """What stands in the page."""
        return shown(self.hit.text, self.spans) if self.spans else self.hit.text[self.start : self.end]

    @property
    def whole(self) -> bool:
        """True when nothing of the record was left out."""
        return not self.spans and self.start == 0 and self.end == len(self.hit.text)

    @property
    def piece(self) -> tuple[str | int, ...]:
        """How a prompt's plan names it: ref, start, end; or ref, "~", then start and end of each span."""
        if not self.spans:
            return (self.hit.id, self.start, self.end)
        return (self.hit.id, "~", *(n for span in self.spans for n in span))

    @classmethod
    def of_piece(cls, hit: Hit, piece: Sequence[str | int]) -> PageItem:
        """The inverse of `piece`."""
        bounds = [int(n) for n in piece[1:] if n != "~"]
        if piece[1] != "~":
            return cls(hit, bounds[0], bounds[1])
        return cls.short(hit, tuple(zip(bounds[::2], bounds[1::2], strict=True)))


@dataclass(frozen=True, slots=True)
class Page:
    """What memory pages in for one query: `text` costs `num_tokens`, and `items` are in its order.
    `in_queue` are the best of those records that stand in the prompt already, so that they were not paged in again."""

    text: str
    num_tokens: int
    items: tuple[PageItem, ...] = ()
    in_queue: tuple[PageItem, ...] = ()

    @property
    def hits(self) -> tuple[Hit, ...]:
        """The records paged in, best first."""
        return tuple(sorted((i.hit for i in self.items), key=lambda h: -h.score))

    @property
    def keys(self) -> tuple[str, ...]:
        """Callers' keys of the records whose whole text stands in the page."""
        return tuple(i.hit.key for i in self.items if i.whole and i.hit.key is not None)

    @property
    def shortened(self) -> tuple[str, ...]:
        """Callers' keys of the records of which only a part stands in the page."""
        return tuple(i.hit.key for i in self.items if not i.whole and i.hit.key is not None)


EMPTY_PAGE = Page("", 0)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where the tokens of a prompt are: `sections` sums to `total`; `exact` says whether they were counted
    with the served model's own tokenizer (`counter` names it) or estimated."""

    total: int
    max_tokens: int
    sections: Mapping[str, int]
    counter: str
    exact: bool


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt. `keys`: messages whose full content stands in it; `shortened`: those of which a part does."""

    messages: tuple[ChatMessage, ...]
    ledger: Ledger
    page: Page
    keys: tuple[str, ...] = ()
    shortened: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more model calls; `cached_tokens` is None where the server does not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None

    def __add__(self, other: Usage) -> Usage:
        cached = [c for c in (self.cached_tokens, other.cached_tokens) if c is not None]
        prompt, written = self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens
        return Usage(prompt, written, sum(cached) if cached else None)


@dataclass(frozen=True, slots=True)
class Citation:
    """A record that a reply rests on; `text` is the part of it that was quoted, or the record's text."""

    id: str
    tier: Tier
    text: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its evidence. `span` is the bare phrase, `text` the sentence said to the user;
    `confidence` is in [0, 1] and `abstained` is true when it was below the stated threshold."""

    text: str
    span: str
    confidence: float
    abstained: bool
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a model. `query`, `page`, `asked_at` and `blocks` repeat in structured form what the messages say.

    With `schema` the text is JSON of that schema. Requests of different `cache_salt` share no cached prefix."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolSpec, ...] = ()
    max_tokens: int = 512
    temperature: float = 0.0
    seed: int | None = None
    only_tool: str | None = None
    schema: Mapping[str, Any] | None = None
    cache_salt: str | None = None
    query: str = ""
    page: Page = EMPTY_PAGE
    asked_at: datetime | None = None
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """What a backend gave back for one request; `answer` only from backends that cite by themselves.
    `derived`: the text only repeats what memory holds, so it is kept out of later searches. `token_ids`: what was
    generated, without the token that ended it; () where the backend does not tell."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    finish_reason: str = "stop"
    answer: Answer | None = None
    derived: bool = False
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed completion; the last one carries the `completion`, its text possibly empty."""

    text: str
    completion: Completion | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the event log. `payload` holds ids and numbers, no message text."""

    number: int
    kind: str
    at: datetime
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a turn gave. `text` is what the user sees, `answer` the bare phrase where the backend gives one;
    `confidence` is None from backends that state none. `usage` sums over the turn's `steps` model calls, `ledger` is
    the first prompt's; `prefixes` say of each step's prompt how much of it could be reused (where tokens are known)."""

    text: str
    usage: Usage
    ledger: Ledger
    steps: int
    answer: str = ""
    citations: tuple[Citation, ...] = ()
    abstained: bool = False
    confidence: float | None = None
    page: Page = EMPTY_PAGE
    events: tuple[Event, ...] = ()
    prefixes: tuple[PrefixReport, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplyChunk:
    """A piece of a streamed reply; the texts joined are the reply's text, and the last chunk carries the `reply`."""

    text: str
    reply: Reply | None = None
