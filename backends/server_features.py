"""What a server can do, found out by asking it: each question is a request of a few tokens, asked once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from agentmem.backends.http import HttpClient
from agentmem.backends.http_replies import Reply
from agentmem.backends.openai_wire import SCHEMA_FORMS, message_of, typed, usage_of
from agentmem.backends.served_model import ServedModel
from agentmem.errors import BackendError, BackendUnavailableError, BadCompletionError, BadRequestError

_ASK = [{"role": "user", "content": "Say hello."}]
# Nobody greets like this: an answer of this shape was forced. White space apart it is the only one that fits.
_FORCED = '{"k":"q7x"}'
_SCHEMA = {
    "type": "object",
    "properties": {"k": {"type": "string", "enum": ["q7x"]}},
    "required": ["k"],
    "additionalProperties": False,
}
_TOOL = {
    "type": "function",
    "function": {"name": "look_up", "description": "Finds it.", "parameters": {"type": "object", "properties": {}}},
}
_FEW, _MANY = 24, 1024
_BOUND = '--structured-outputs-config \'{"backend": "guidance", "disable_any_whitespace": true}\''


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a server has something: `how` it does it, or why it does not."""

    found: bool
    how: str = ""


@dataclass(frozen=True, slots=True)
class Features:
    """What a server can do. `structured`: it keeps answers to a JSON schema. `token_ids`: it tells which tokens it
    generated. What is not there costs: no `tools`, the model is given memory tools as JSON or not at all; no
    `structured`, not as JSON; no `tokenize`, counts are estimates; no `token_ids`, a reply that the template writes
    otherwise later is not seen; no `metrics`, the block size is not known; no `window`, it must be given."""

    tools: Finding
    structured: Finding
    tokenize: Finding
    token_ids: Finding
    metrics: Finding
    embeddings: Finding
    window: Finding

    def __str__(self) -> str:
        found = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return "; ".join(f"{n}: {'yes' if x.found else 'no'}" + (f" ({x.how})" if x.how else "") for n, x in found)


class FeatureProbe:
    """Asks a server what it can do with its model; answers are remembered. Thread-safe.

    A server that can't be reached, or is busy, raises BackendError and is asked again the next time.
    """

    def __init__(self, http: HttpClient, served: ServedModel) -> None:
        self._http = http
        self._served = served
        self._lock = threading.RLock()
        self._known: dict[str, Finding] = {}
        self._form: str | None = None
        self._plain_tokens: int | None = None

    def known(self) -> Mapping[str, Finding]:
        """What was found out so far, by the names of Features."""
        with self._lock:
            return dict(self._known)

    def structured(self) -> Finding:
        """Whether answers can be kept to a JSON schema, and under which name it is asked for."""
        with self._lock:
            if "structured" not in self._known:
                self._known["structured"] = self._try_forms()
            return self._known["structured"]

    def schema_form(self) -> str | None:
        """The name in SCHEMA_FORMS that works here; None when none does."""
        with self._lock:
            self.structured()
            return self._form

    def tools(self) -> Finding:
        """Whether tools can be offered natively: the server takes them, and the model is shown them."""
        with self._lock:
            if "tools" not in self._known:
                self._known["tools"] = self._try_tools()
            return self._known["tools"]

    def token_ids(self) -> Finding:
        """Whether the server tells which tokens it generated."""
        with self._lock:
            if "token_ids" not in self._known:
                self._try_plain()
            return self._known["token_ids"]

    def embeddings(self) -> Finding:
        """Whether the server embeds with this model."""
        with self._lock:
            if "embeddings" not in self._known:
                reply = self._asked(f"{self._http.url}/embeddings", {"input": ["a"]})
                self._known["embeddings"] = reply if isinstance(reply, Finding) else Finding(True, "/embeddings")
            return self._known["embeddings"]

    def prompt_tokens(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> int | None:
        """The prompt tokens that the server states for a request; None when it states none. Raises BadRequestError."""
        body = {"messages": messages, "max_tokens": 1, "temperature": 0.0} | ({"tools": tools} if tools else {})
        reply = self._http.post(self._chat, {"model": self._served.id()} | body, model=self._served.id())
        usage = usage_of(reply)
        return usage.prompt_tokens if usage is not None else None

    @property
    def _chat(self) -> str:
        return f"{self._http.url}/chat/completions"

    def _try_forms(self) -> Finding:
        why: list[str] = []
        for name, form in SCHEMA_FORMS.items():
            reply = self._ask_for(form(_SCHEMA), _FEW)
            if not isinstance(reply, Finding) and _silent(reply):
                reply = self._ask_for(form(_SCHEMA), _MANY)  # it thinks first
            if isinstance(reply, Finding):
                why.append(f"{name}: {reply.how}")
                continue
            usage = usage_of(reply)
            self._plain_tokens = usage.prompt_tokens if usage is not None else None
            text, finish = _said(reply)
            kept = "".join(text.split())
            if kept == _FORCED or (kept and _FORCED.startswith(kept) and finish == "length"):
                self._form = name
                wide = "" if kept == _FORCED else f", white space without bound: start vLLM with {_BOUND}"
                return Finding(True, name + wide)
            why.append(f"{name}: ignored")
        return Finding(False, ", ".join(why))

    def _try_tools(self) -> Finding:
        reply = self._ask_for({"tools": [_TOOL], "tool_choice": "auto"}, 1)
        if isinstance(reply, Finding):
            return reply
        if self._plain_tokens is None:
            self._try_plain()
        usage = usage_of(reply)
        if usage is not None and self._plain_tokens is not None and usage.prompt_tokens <= self._plain_tokens:
            return Finding(False, "the model's chat template leaves tools out")
        return Finding(True, "the server's tool parser")

    def _try_plain(self) -> None:
        if self._served.row().owner == "vllm":
            reply = self._ask_for({"return_token_ids": True}, 1)
            ids = None if isinstance(reply, Finding) else typed(reply, message_of(reply)[0], "token_ids", list)
            finding = (
                Finding(True, "return_token_ids") if ids else Finding(False, "this vLLM knows no return_token_ids")
            )
        else:
            reply = self._ask_for({}, 1)
            finding = Finding(False, "only vLLM tells them")
        self._known["token_ids"] = finding
        usage = None if isinstance(reply, Finding) else usage_of(reply)
        self._plain_tokens = usage.prompt_tokens if usage is not None else None

    def _ask_for(self, extra: Mapping[str, Any], max_tokens: int) -> Reply | Finding:
        body = {"messages": _ASK, "max_tokens": max_tokens, "temperature": 0.0, **extra}
        return self._asked(self._chat, body)

    def _asked(self, url: str, body: Mapping[str, Any]) -> Reply | Finding:
        """The answer, or what the refusal says. Not asked again after a 500: it would say so again."""
        once = threading.Event()
        once.set()
        sent = {"model": self._served.id(), **body}
        try:
            try:
                return self._http.post(url, sent, model=self._served.id(), stop=once)
            except BackendError as e:
                if not e.retryable or e.status in (500, 501):
                    raise
                return self._http.post(url, sent, model=self._served.id())
        except (BadRequestError, BadCompletionError, BackendUnavailableError) as e:
            if isinstance(e, BackendUnavailableError) and e.status not in (500, 501):
                raise
            if e.status in (401, 403):
                raise
            said = e.message.partition(" answered ")[2] or e.message
            return Finding(False, said[:200])


def _said(reply: Reply) -> tuple[str, str]:
    choice, message = message_of(reply)
    return typed(reply, message, "content", str) or "", typed(reply, choice, "finish_reason", str) or ""


def _silent(reply: Reply) -> bool:
    text, finish = _said(reply)
    return not text.strip() and finish == "length"
