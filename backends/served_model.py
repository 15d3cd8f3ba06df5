"""What an OpenAI-compatible server says about the model it serves: its name, its window, where its files are."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from agentmem.backends.http import HttpClient
from agentmem.backends.http_replies import Reply
from agentmem.errors import BadCompletionError, BadRequestError, ConfigError


@dataclass(frozen=True, slots=True)
class ServedRow:
    """A model as `GET /models` lists it. `window` in tokens; `root` is the path or hub name of its files; `owner`
    is "vllm" for vLLM. None and "": not said."""

    name: str
    window: int | None = None
    root: str = ""
    owner: str = ""


class ServedModel:
    """The model behind a URL, asked for at `GET /models` when first needed, once. Thread-safe."""

    def __init__(self, http: HttpClient, given: str | None) -> None:
        self._http = http
        self._given = given
        self._lock = threading.Lock()
        self._listed: Mapping[str, ServedRow] | None = None
        self._accepted: set[str] = set()

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

    def row(self) -> ServedRow:
        """What the server lists of its model; a bare row where it lists none, or not this one. Raises as `id`."""
        try:
            return self._models().get(self.id(), ServedRow(self.id()))
        except (BadRequestError, BadCompletionError):
            if self._given is None:
                raise
            with self._lock:  # a named model can be used on a server that lists none
                self._listed = {}
            return ServedRow(self._given)

    def max_tokens(self) -> int | None:
        """The window that the server states (vLLM's `max_model_len`); None when it states none. Raises as `id`."""
        return self.row().window

    def check(self, reply: Reply) -> None:
        """Raises BadCompletionError when another model answered than the one asked.

        A server may answer under another of its names for the same model: it lists the asked one then. A dated
        version of the asked name is that model too.
        """
        answered = reply.body.get("model") if isinstance(reply.body, dict) else None
        asked = self._given
        if not isinstance(answered, str) or asked is None or answered == asked or answered in self._accepted:
            return
        self.row()
        listed = self._listed or {}
        if asked not in listed and not answered.startswith(asked):
            raise BadCompletionError(
                f"{reply.url}: asked for the model {asked!r}, the model {answered!r} answered"
                + (f"; the server lists {', '.join(listed)}" if listed else ""),
                hint=f"name the model that is meant: {self._http.url}#{answered}",
                request_id=reply.request_id,
            )
        self._accepted.add(answered)

    def _models(self) -> Mapping[str, ServedRow]:
        with self._lock:
            if self._listed is None:
                self._listed = _read_models(self._http.get(f"{self._http.url}/models"))
            return self._listed


def _read_models(reply: Reply) -> dict[str, ServedRow]:
    rows = reply.body.get("data") if isinstance(reply.body, dict) else None
    if not isinstance(rows, list):
        raise reply.bad("holds no list of models ('data')")
    models: dict[str, ServedRow] = {}
    for row in rows:
        name = row.get("id") if isinstance(row, dict) else None
        if not isinstance(name, str):
            raise reply.bad("lists a model without an id")
        window, root, owner = row.get("max_model_len"), row.get("root"), row.get("owned_by")
        models[name] = ServedRow(
            name,
            window if type(window) is int and window > 0 else None,
            root if isinstance(root, str) else "",
            owner if isinstance(owner, str) else "",
        )
    return models
