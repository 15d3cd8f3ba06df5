"""Prompts encoded message by message, as far as the chat template allows it; whole otherwise, and said."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agentmem.backends.chat_rendering import ChatRenderer
from agentmem.backends.template_probe import (
    TOOL,
    NotApartError,
    Unit,
    UnitTemplate,
    adjacent,
    dialogues,
    thoughts,
)
from agentmem.encoding import Encoding, Piece
from agentmem.errors import BadRequestError
from agentmem.types import ChatMessage, ToolSpec

_EMPTY = Piece("", (), ())
_WHOLES_KEPT = 4


@dataclass(frozen=True)
class _Cut:
    """A piece, and whether a text may be cut before and behind it without changing its tokens."""

    piece: Piece
    opens: bool
    closes: bool


class Borders:
    """Where a text may be cut: tokenizers look for added tokens first, and never tokenise across one."""

    def __init__(self, tokenizer: Any) -> None:
        added = [t for t in tokenizer.added_tokens_decoder.values() if t.content and not t.single_word]
        self._opening = re.compile(_any(t.content for t in added if not t.lstrip))
        self._closing = tuple(t.content for t in added if not t.rstrip)

    def cut(self, piece: Piece) -> _Cut:
        """The piece with what is known of its ends."""
        return _Cut(piece, self._opening.match(piece.text) is not None, piece.text.endswith(self._closing))


def _any(texts: Any) -> str:
    return "|".join(map(re.escape, texts)) or "(?!)"


class PromptUnits:
    """Encodes prompts; a message that was in an earlier one is neither rendered nor tokenised again.

    At the first prompt the template is tried on a few dialogues (`template_probe`): rendered and tokenised message by
    message they must give the text and the tokens of the whole. As no trial covers every text, the same is compared
    on prompts whose head or whose order of roles is new, and on prompt 1, 2, 4, 8 and so on; at a difference
    all prompts are encoded whole from then on, and `how` says why. `cache_tokens` bounds what is kept (about 100 bytes
    a token). Not thread-safe.
    """

    def __init__(
        self, renderer: ChatRenderer, tokenise: Callable[[str], Piece], borders: Borders, *, cache_tokens: int
    ) -> None:
        self._renderer = renderer
        self._tokenise = tokenise
        self._borders = borders
        self._cache_tokens = cache_tokens
        self._kept: OrderedDict[Any, _Cut] = OrderedDict()
        self._kept_tokens = 0
        self._wholes: OrderedDict[str, Piece] = OrderedDict()
        self._template: UnitTemplate | None = None
        self._opening = self._borders.cut(_EMPTY)
        self._why: dict[bool, str] | None = None  # with tools or without -> why not message by message
        self._pairs: set[tuple[str, str]] = set()
        self._moves_thinking = False
        self._single: dict[str, None] = {}  # why single prompts were encoded whole
        self._prompts = 0

    @property
    def incremental(self) -> bool:
        """Whether prompts are encoded message by message, with tools and without."""
        return not any(self._probed().values())

    @property
    def how(self) -> str:
        """How prompts are encoded, and why not message by message where they are not."""
        without, with_tools = self._probed()[False], self._probed()[True]
        if without:
            return f"the whole prompt is counted each time: {without}"
        if with_tools:
            return f"message by message without tools; with tools the whole prompt is counted each time: {with_tools}"
        some = f"; some prompts were counted whole: {'; '.join(self._single)}" if self._single else ""
        return f"message by message, checked against the whole prompt now and then{some}"

    def encode(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> Encoding:
        """The prompt's tokens, the opening of the reply included. Raises BadRequestError where the template does."""
        messages = tuple(messages)
        self._prompts += 1
        if not self._probed()[bool(tools)]:
            try:
                return self._message_by_message(messages, tools)
            except NotApartError as e:
                if len(self._single) < 8:
                    self._single[str(e)] = None
        return self.whole(messages, tools)

    def whole(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> Encoding:
        """The prompt as one piece."""
        text = self._renderer.render(messages, tools)
        if text not in self._wholes:
            self._wholes[text] = self._tokenise(text)
            if len(self._wholes) > _WHOLES_KEPT:
                self._wholes.popitem(last=False)
        self._wholes.move_to_end(text)
        return Encoding((self._wholes[text],), ((0, len(messages)),))

    def alone(self, message: ChatMessage, before: Sequence[ChatMessage]) -> int | None:
        """Tokens of a message as a unit; `before`: messages that it may follow. None where it has no tokens apart."""
        if self._probed()[False] or message.role == "system":
            return None
        try:
            return len(self._unit((message,), before[-1] if message.role == "tool" else None).piece.ids)
        except NotApartError:
            return None

    def _message_by_message(self, messages: tuple[ChatMessage, ...], tools: Sequence[ToolSpec]) -> Encoding:
        assert self._template is not None
        if self._moves_thinking and any(m.role == "assistant" and "</think>" in m.content for m in messages):
            raise NotApartError("thinking stands in an answer, and the template renders it by what follows")
        units = self._template.units(messages, bool(tools))
        cuts, is_new = self._cuts(units, messages, tools)
        seen = [c for c in cuts if c.piece.text]
        if not all(a.closes or b.opens for a, b in pairwise(seen)):
            raise NotApartError("the messages neither begin nor end at special tokens")
        encoding = Encoding(tuple(c.piece for c in cuts), (*((u.first, u.end) for u in units), (len(messages),) * 2))
        pairs = {*adjacent(units), (units[-1].kind, "reply")}
        known = pairs <= self._pairs
        if not known or is_new or self._prompts & (self._prompts - 1) == 0:
            problem = self._problem(encoding, messages, tools)
            if problem and not known:
                raise NotApartError(f"{problem} where messages stood in an order that was not tried")
            if problem:
                assert self._why is not None
                self._why[bool(tools)] = f"{problem}, found at prompt {self._prompts}"
                raise NotApartError(problem)
            self._pairs |= pairs
        return encoding

    def _cuts(
        self, units: Sequence[Unit], messages: tuple[ChatMessage, ...], tools: Sequence[ToolSpec]
    ) -> tuple[list[_Cut], bool]:
        """The units' pieces and the opening's, and whether the head is a new one."""
        head, is_new = self._head(messages[: units[0].end], tools)
        cuts = [head]
        for unit in units[1:]:
            called = messages[unit.first - 1] if unit.kind == "tool" else None
            cuts.append(self._unit(messages[unit.first : unit.end], called))
        return [*cuts, self._opening], is_new

    def _head(self, messages: tuple[ChatMessage, ...], tools: Sequence[ToolSpec]) -> tuple[_Cut, bool]:
        assert self._template is not None
        if self._renderer.dated:  # the same messages may be written otherwise by now
            text = self._template.head(messages, tools)
            return self._keep(text, lambda: text)
        template, schemas = self._template, json.dumps([t.to_dict() for t in tools])
        return self._keep((messages, schemas), lambda: template.head(messages, tools))

    def _unit(self, messages: tuple[ChatMessage, ...], called: ChatMessage | None) -> _Cut:
        template = self._template
        assert template is not None
        return self._keep((messages, called), lambda: template.text(messages, called))[0]

    def _keep(self, key: Any, text: Callable[[], str]) -> tuple[_Cut, bool]:
        """The cut kept under `key`, else a new one of `text`, and whether it is new."""
        known = self._kept.get(key)
        if known is not None:
            self._kept.move_to_end(key)
            return known, False
        cut = self._borders.cut(self._tokenise(text()))
        self._kept[key] = cut
        self._kept_tokens += len(cut.piece.ids) + 1
        while self._kept_tokens > self._cache_tokens and len(self._kept) > 1:
            self._kept_tokens -= len(self._kept.popitem(last=False)[1].piece.ids) + 1
        return cut, True

    def _problem(self, encoding: Encoding, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> str:
        """How a prompt put together from units differs from the whole; "" when it does not."""
        text = self._renderer.render(messages, tools)
        if text != encoding.text:
            return "a prompt's text was another than its messages'"
        return "" if self._tokenise(text).ids == encoding.ids else "a prompt's tokens were others than its messages'"

    def _probed(self) -> dict[bool, str]:
        """Why prompts without (False) and with tools (True) are not encoded message by message; "" where they are."""
        if self._why is None:
            try:
                self._template = UnitTemplate(self._renderer.render)
                self._opening = self._borders.cut(self._tokenise(self._template.opening))
            except NotApartError as e:
                self._why = {False: str(e), True: str(e)}
                return self._why
            self._why = {with_tools: self._try(with_tools) for with_tools in (False, True)}
        return self._why

    def _try(self, with_tools: bool) -> str:
        tools = (TOOL,) if with_tools else ()
        for what, messages in dialogues():
            if problem := self._differs(messages, tools):
                return f"{problem} (in a conversation with {what})"
        self._moves_thinking |= any(self._differs(messages, tools) for _, messages in thoughts())
        return ""

    def _differs(self, messages: tuple[ChatMessage, ...], tools: Sequence[ToolSpec]) -> str:
        """How a dialogue's messages rendered apart differ from the whole; "" if not, or if the template refuses it."""
        assert self._template is not None
        try:
            text = self._renderer.render(messages, tools)
        except BadRequestError:
            return ""  # its order of roles stays unknown, and is compared when it comes
        try:
            units = self._template.units(messages, bool(tools))
            cuts, _ = self._cuts(units, messages, tools)
        except (NotApartError, BadRequestError) as e:
            return "" if messages[0].role != "system" and isinstance(e, NotApartError) else str(e)
        if "".join(c.piece.text for c in cuts) != text:
            return "the template renders a message otherwise where others stand around it"
        seen = [c for c in cuts if c.piece.text]
        if not all(a.closes or b.opens for a, b in pairwise(seen)):
            return "the messages neither begin nor end at special tokens"
        if tuple(i for c in cuts for i in c.piece.ids) != self._tokenise(text).ids:
            return "messages tokenised apart give other tokens"
        self._pairs |= {*adjacent(units), (units[-1].kind, "reply")}
        return ""
