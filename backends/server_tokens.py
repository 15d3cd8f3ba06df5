"""What an OpenAI-compatible server tells about the model it serves: its name, its window, and its tokens."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from agentmem.backends.http import HttpClient, Reply, encode
from agentmem.errors import BackendError, BackendUnavailableError, BadCompletionError, BadRequestError, ConfigError
from agentmem.protocols import TokenCounter
from agentmem.tokens import approximate_counter
from agentmem.types import ChatMessage, ToolSpec

_CACHE_SIZE = 20_000
_NO_ENDPOINT = (404, 405)


class ServedModel:
    """The model behind a URL, asked for at `GET /models` when first needed, once. Thread-safe."""

    def __init__(self, http: HttpClient, given: str | None) -> None:
        self._http = http
        self._given = given
        self._lock = threading.Lock()
        self._listed: dict[str, int | None] | None = None

    def id(self) -> str:
        """The name to send: the given one, or the server's only one.

        Raises ConfigError when there are several or none, BackendError when the server can't be asked.
        """
        if self._given is None:
            names = list(self._models())
            if len(names) != 1:
                problem = f"the server has {len(names)} models: {', '.join(names)}" if names else "it lists no model"
                raise ConfigError("target", self._http.url, problem, hint=f"name one: {self._http.url}#MODEL")
            self._given = names[0]
        return self._given

    def max_tokens(self) -> int | None:
        """The window that the server states (vLLM's `max_model_len`); None when it states none."""
        try:
            return self._models().get(self.id())
        except BadRequestError as e:
            # A named model can be used on a server that lists none.
            if e.status in _NO_ENDPOINT and self._given is not None:
                return None
            raise

    def _models(self) -> dict[str, int | None]:
        with self._lock:
            if self._listed is None:
                self._listed = _read_models(self._http.get(f"{self._http.url}/models"))
            return self._listed


def _read_models(reply: Reply) -> dict[str, int | None]:
    rows = reply.body.get("data") if isinstance(reply.body, dict) else None
    if not isinstance(rows, list):
        raise reply.bad("holds no list of models ('data')")
    models: dict[str, int | None] = {}
    for row in rows:
        name = row.get("id") if isinstance(row, dict) else None
        if not isinstance(name, str):
            raise reply.bad("lists a model without an id")
        window = row.get("max_model_len")
        models[name] = window if type(window) is int and window > 0 else None
    return models


class ServerCounter:
    """Counts by asking the server (`POST {root}/tokenize`, as vLLM has it), chat template included.

    Exact, and not additive, for as long as the server answers. One that never answered /tokenize and refuses it
    is not asked again: `exact`, `additive` and `name` then change to say that the counts are estimates, so read
    them after a count. A server that is down raises BackendError: it could not run the model either.
    Counts are cached by a digest of what was asked. Thread-safe.
    """

    def __init__(self, http: HttpClient, model: Callable[[], str]) -> None:
        self.name = f"the server's own (/tokenize at {http.root})"
        self.exact = True
        self.additive = False
        self._http = http
        self._model = model
        self._lock = threading.Lock()
        self._cache: OrderedDict[bytes, int] = OrderedDict()
        self._has_answered = False
        self._estimate: TokenCounter | None = None

    def count(self, text: str) -> int:
        """Tokens of a text on its own. Raises BackendError."""
        if not text:
            return 0
        asked = self._ask({"prompt": text, "add_special_tokens": False}) if self._estimate is None else None
        return asked if asked is not None else self._estimated().count(text)

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens of the prompt as the server's chat template renders it. Raises BackendError."""
        asked = None
        if self._estimate is None:
            body: dict[str, Any] = {"messages": [m.to_dict() for m in messages]}
            if tools:
                body["tools"] = [t.to_dict() for t in tools]
            asked = self._ask(body | {"add_generation_prompt": True})
        return asked if asked is not None else self._estimated().count_prompt(messages, tools)

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
        key = blake2b(encode(body), digest_size=16).digest()
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        try:
            count = self._post(body)
        except BackendError as e:
            if self._has_answered or not _refused(e):
                raise
            # A template may refuse these very messages: that says nothing about the endpoint.
            if "messages" in what and e.status in (400, 422) and self._answers_to_text():
                raise
            return None
        with self._lock:
            self._has_answered = True
            self._cache[key] = count
            while len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)
        return count

    def _answers_to_text(self) -> bool:
        return self._ask({"prompt": "a", "add_special_tokens": False}) is not None

    def _post(self, body: dict[str, Any]) -> int:
        reply = self._http.post(f"{self._http.root}/tokenize", body, model=body["model"])
        count = reply.body.get("count") if isinstance(reply.body, dict) else None
        if type(count) is not int or count < 0:
            raise reply.bad("holds no token count ('count')")
        return count


def _refused(error: BackendError) -> bool:
    """The server is there and will not count: a status other than 'later', or an answer that is no count."""
    if isinstance(error, BadCompletionError | BadRequestError):
        return True
    # A missing status means no connection; 502 to 504 come from a server, or its proxy, that is starting or busy.
    return isinstance(error, BackendUnavailableError) and error.status in (500, 501, 505)
