"""What an OpenAI-compatible server tells about the tokens of its model (`POST {root}/tokenize`, as vLLM has it)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from agentmem.backends.http import HttpClient, encode
from agentmem.backends.http_replies import Reply
from agentmem.backends.token_text import token_text
from agentmem.encoding import Encoding, Piece, common_length
from agentmem.errors import BackendError, BackendUnavailableError, BadCompletionError, BadRequestError
from agentmem.protocols import TokenCounter
from agentmem.tokens import approximate_counter
from agentmem.types import ChatMessage, ToolCall, ToolSpec

_CACHE_SIZE = 20_000
_ENCODINGS = 8  # an agent asks for its last prompt again; they are large
_SAID = ChatMessage("user", "a")
_ANSWERED = ChatMessage("assistant", "a")
_CALLED = ChatMessage("assistant", "", (ToolCall("callmarks", "look_up", '{"query": "a"}'),))
_RESULT = ChatMessage("tool", "a", tool_call_id="callmarks")


def _same(tool: ToolSpec) -> ToolSpec:
    return tool


class ServerCounter:
    """Counts by asking the server, chat template included.

    Exact, and not additive, for as long as the server answers. One that never answered /tokenize and refuses it
    is not asked again: `exact`, `additive` and `name` then change to say that the counts are estimates, so read
    them after a count. A server that is down raises BackendError: it could not run the model either.
    Counts are cached by a digest of what was asked. `tool` turns a tool into what is sent of it. Thread-safe.
    """

    def __init__(
        self, http: HttpClient, model: Callable[[], str], tool: Callable[[ToolSpec], ToolSpec] = _same
    ) -> None:
        self.name = f"the server's own (/tokenize at {http.root})"
        self.exact = True
        self.additive = False
        self._http = http
        self._model = model
        self._tool = tool
        self._lock = threading.Lock()
        self._cache: OrderedDict[bytes, int] = OrderedDict()
        self._encodings: OrderedDict[bytes, Encoding] = OrderedDict()
        self._has_answered = False
        self._estimate: TokenCounter | None = None
        self._measured: tuple[int, int] | None = None

    def count(self, text: str) -> int:
        """Tokens of a text on its own. Raises BackendError."""
        if not text:
            return 0
        asked = self._ask({"prompt": text, "add_special_tokens": False}) if self._estimate is None else None
        return asked if asked is not None else self._estimated().count(text)

    def count_message(self, message: ChatMessage) -> int:
        """What a message adds to a prompt: what it says, and the template's marks around a message and a call, that are
        measured once; a result's own marks are counted with its call. Raises BackendError."""
        said = self.count(message.content) + sum(self._said(c) for c in message.tool_calls)
        marks = self._marks() if self._estimate is None else None
        if marks is None:
            return self._estimated().count_message(message)
        return said + marks[0] + marks[1] * len(message.tool_calls)

    def _said(self, call: ToolCall) -> int:
        return self.count(call.name) + self.count(call.arguments)

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens of the prompt as the server's chat template renders it. Raises BackendError."""
        asked = self._ask(self._prompt(messages, tools)) if self._estimate is None else None
        return asked if asked is not None else self._estimated().count_prompt(messages, tools)

    def _prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> dict[str, Any]:
        body: dict[str, Any] = {"messages": [m.to_dict() for m in messages]}
        if tools:
            body["tools"] = [self._tool(t).to_dict() for t in tools]
        return body | {"add_generation_prompt": True}

    def _marks(self) -> tuple[int, int] | None:
        """Tokens around a message, and around a call with its result; None when the server can't be asked.

        The first is half of what an answer and a question add, without theirs. A template that knows no calls: 0.
        """
        if self._measured is None:
            short, long = (self._ask(self._prompt([_SAID, *more], ())) for more in ((), (_ANSWERED, _SAID)))
            if short is None or long is None:
                return None
            around = max(0, -(-(long - short - 2 * self.count(_SAID.content)) // 2))
            try:
                called = self._ask(self._prompt([_SAID, _CALLED, _RESULT, _SAID], ())) or 0
                around_call = max(0, called - long - around - self._said(_CALLED.tool_calls[0]))
            except BadRequestError:
                around_call = 0
            self._measured = (around, around_call)
        return self._measured

    def _estimated(self) -> TokenCounter:
        with self._lock:
            if self._estimate is None:
                self._estimate = approximate_counter()
                self.name = "approximate (server has no /tokenize)"
                self.exact, self.additive = False, self._estimate.additive
            return self._estimate

    def _ask(self, what: dict[str, Any]) -> int | None:
        """The server's count; None when it turns out to have no such endpoint."""
        body = {"model": self._model()} | what
        key = _digest(body)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        try:
            _, count = self._post(body)
        except BackendError as e:
            if self._has_answered or not _refused(e):
                raise
            # A template may refuse these very messages: that says nothing about the endpoint.
            if "messages" in what and e.status in (400, 422) and self._answers_to_text():
                raise
            return None
        self._keep(key, count)
        return count

    def _keep(self, key: bytes, count: int) -> None:
        with self._lock:
            self._has_answered = True
            self._cache[key] = count
            while len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)

    def _answers_to_text(self) -> bool:
        return self._ask({"prompt": "a", "add_special_tokens": False}) is not None

    def _post(self, body: dict[str, Any]) -> tuple[Reply, int]:
        reply = self._http.post(f"{self._http.root}/tokenize", body, model=body["model"])
        count = reply.body.get("count") if isinstance(reply.body, dict) else None
        if type(count) is not int or count < 0:
            raise reply.bad("holds no token count ('count')")
        return reply, count


class ServerTokenizer(ServerCounter):
    """A counter that gives the tokens themselves, for a server that is known to answer /tokenize with them.

    Each prompt is one piece, and asked for whole. Its text is put together from the server's token strings; where the
    messages do not stand in that, or the server gives no strings, the piece has no text and every start is 0.
    """

    incremental = False
    how = "each prompt is sent to the server's /tokenize as a whole; give the tokenizer's folder to count here"

    def encode_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> Encoding:
        """The prompt's tokens. Raises BackendError; BadCompletionError when the server gives no tokens."""
        body = {"model": self._model()} | self._prompt(messages, tools)
        key = _digest(body)
        with self._lock:
            if key in self._encodings:
                self._encodings.move_to_end(key)
                return self._encodings[key]
        reply, count = self._post(body | {"return_token_strs": True})
        ids = reply.body.get("tokens")
        if not isinstance(ids, list) or len(ids) != count or not all(type(i) is int for i in ids):
            raise reply.bad("lists no tokens, or not as many as it counts")
        text, starts = _text(reply.body.get("token_strs"), messages, count)
        made = Encoding((Piece(text, tuple(ids), starts),), ((0, len(messages)),))
        self._keep(key, count)
        with self._lock:
            self._encodings[key] = made
            while len(self._encodings) > _ENCODINGS:
                self._encodings.popitem(last=False)
        return made

    def rerendered(self, message: ChatMessage, ids: Sequence[int]) -> str:
        """Why a generated message would stand in the next prompt as other tokens; "" when it would not.

        Raises BackendError.
        """
        if not ids:
            return ""
        opened = self.encode_prompt([_SAID]).ids
        later = self.encode_prompt([_SAID, message, *_following(message)]).ids
        if later[: len(opened)] != opened:
            return "the chat template writes what stands before a message otherwise once there is an answer"
        again = later[len(opened) :]
        same = common_length(again, ids)
        if same == len(ids):
            return ""
        what = "its calls, or what stands around them," if message.tool_calls else "it"
        return f"the chat template writes {what} otherwise from token {same + 1} of {len(ids)} on"


def _following(message: ChatMessage) -> tuple[ChatMessage, ...]:
    results = tuple(ChatMessage("tool", "a", tool_call_id=c.id) for c in message.tool_calls)
    return results or (_SAID,)


def _text(strings: Any, messages: Sequence[ChatMessage], count: int) -> tuple[str, tuple[int, ...]]:
    if isinstance(strings, list) and len(strings) == count and all(isinstance(s, str) for s in strings):
        text, starts = token_text(strings)
        at = 0
        for message in messages:
            found = text.find(message.content.strip(), at)
            if found < 0:
                break
            at = found + len(message.content.strip())
        else:
            return text, starts
    return "", (0,) * count


def _digest(body: dict[str, Any]) -> bytes:
    return blake2b(encode(body), digest_size=16).digest()


def _refused(error: BackendError) -> bool:
    """The server is there and will not count: a status other than 'later', or an answer that is no count."""
    if isinstance(error, BadCompletionError | BadRequestError):
        return True
    # A missing status means no connection; 502 to 504 come from a server, or its proxy, that is starting or busy.
    return isinstance(error, BackendUnavailableError) and error.status in (500, 501, 505)


def probe_conversation() -> tuple[tuple[ChatMessage, ...], tuple[ToolSpec, ...]]:
    """Messages of every role, with a call, its result and odd text: what a template and a tokenizer can differ in."""
    call = ToolCall("callprob1", "look_up", '{"query": "Zo\u00eb\'s \\"caf\\u00e9\\"", "limit": 3}')
    messages = (
        ChatMessage("system", "Be brief.\n  Indented: 1,234.50 \u6771\u4eac"),
        ChatMessage("user", "What's new? \U0001f600\n\n<b>x</b>  "),
        ChatMessage("assistant", "", (call,)),
        ChatMessage("tool", '{"status": "OK", "results": []}', tool_call_id="callprob1"),
        ChatMessage("assistant", "Nothing, I'm afraid."),
        ChatMessage("user", "Thanks"),
    )
    parameters = {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What \u2013 <and> why"},
            "limit": {"type": "integer"},
        },
        "required": ["query"],
    }
    return messages, (ToolSpec("look_up", "Finds it.", parameters),)
