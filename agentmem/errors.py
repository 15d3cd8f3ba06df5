"""The errors of agentmem, one tree. Each says what was wrong, with data fields, and carries a `hint`: what to do.

AgentMemError
|- ConfigError (ValueError)          a setting or an argument: .field .value
|  `- InvalidInputError              a message, time, query or file line: .field .value
|- MissingExtraError (ImportError)   .extra
|- UnknownNameError (LookupError)    an agent, backend, embedder, block or record that is not there: .kind .name .known
|- ContextOverflowError              .needed_tokens .available_tokens
|- BlockError
|  |- BlockFullError                 .label .num_tokens .max_tokens
|  |- ReadOnlyBlockError             .label
|  `- BlockTextError                 the text to replace is not there, or not once: .label
|- StoreError
|  |- StoreBusyError                 another process holds the file, or the agent
|  |- StoreFullError                 the disk is full
|  |- StoreReadOnlyError             the folder or the file can't be written
|  |- SchemaVersionError             written by a newer agentmem: .found .known
|  |- EmbedderMismatchError          vectors of another embedder: .expected .found
|  |- CorruptStoreError              the SQLite file itself is damaged
|  `- IndexDamagedError              an index snapshot that does not verify (repaired from SQLite by its catcher)
|- BackendError                      .retryable .status .request_id
|  |- BackendUnavailableError        retryable: no connection, 5xx
|  |- BackendTimeoutError            retryable
|  |- RateLimitedError               retryable: .retry_after_s
|  |- BadRequestError                4xx: asking again will not help
|  `- BadCompletionError             an answer that can't be used
|- CompressionError                  a compressor failed; who asked goes on with the text as it is: .compressor
`- AgentRunError                     the turn stopped: .steps
   |- StepLimitError
   `- RepeatedFailureError           the same call failed the same way twice
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class AgentMemError(Exception):
    """Base of all errors that agentmem raises on purpose. `hint` says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


def shown(value: object, max_chars: int = 60) -> str:
    """A value for an error text: its repr, cut in the middle (the end of a path tells most)."""
    text = repr(value)
    if len(text) <= max_chars:
        return text
    head = (max_chars - 3) // 2
    return f"{text[:head]}...{text[head + 3 - max_chars :]}"


class ConfigError(AgentMemError, ValueError):
    """A setting or an argument is wrong: names the field, the value and the remedy."""

    def __init__(self, field: str, value: object, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{field}={shown(value)}: {problem}", hint=hint)
        self.field = field
        self.value = value


class InvalidInputError(ConfigError):
    """A message, a time, a query or a line of a file can't be taken as it is."""


class MissingExtraError(AgentMemError, ImportError):
    """A feature needs a package that is not installed."""

    def __init__(self, feature: str, extra: str, missing: str) -> None:
        super().__init__(
            f"{feature} needs the package {missing!r}, which is not installed",
            hint=f"pip install 'agentmem[{extra}]'",
        )
        self.extra = extra


class UnknownNameError(AgentMemError, LookupError):
    """A name that nothing answers to; lists the known ones."""

    def __init__(self, kind: str, name: str, known: Sequence[str], *, hint: str = "") -> None:
        listed = ", ".join(known) if known else "none"
        super().__init__(f"unknown {kind} {shown(name)}; known: {listed}", hint=hint)
        self.kind = kind
        self.name = name
        self.known = tuple(known)


class ContextOverflowError(AgentMemError):
    """What must stand in the prompt does not fit into its budget."""

    def __init__(self, what: str, needed_tokens: int, available_tokens: int, *, hint: str = "") -> None:
        super().__init__(f"{what} needs {needed_tokens} tokens, {available_tokens} are available", hint=hint)
        self.needed_tokens = needed_tokens
        self.available_tokens = available_tokens


class BlockError(AgentMemError):
    """A core-memory edit that was refused; the block is unchanged."""

    def __init__(self, label: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"core memory block {label!r}: {problem}", hint=hint)
        self.label = label


class BlockFullError(BlockError):
    """The edit would take the block over its token limit."""

    def __init__(self, label: str, num_tokens: int, max_tokens: int) -> None:
        super().__init__(
            label,
            f"the edit makes it {num_tokens} tokens, its limit is {max_tokens}",
            hint="shorten the text, replace an old line, or put it into archival memory",
        )
        self.num_tokens = num_tokens
        self.max_tokens = max_tokens


class ReadOnlyBlockError(BlockError):
    """The block is read-only."""

    def __init__(self, label: str) -> None:
        super().__init__(label, "is read-only", hint="its owner can set read_only = False")


class BlockTextError(BlockError):
    """The text to be replaced does not stand in the block exactly once."""


class StoreError(AgentMemError):
    """The store could not do it; nothing was half-written."""


class StoreBusyError(StoreError):
    """Another process holds the file, or the agent."""


class StoreFullError(StoreError):
    """The disk, or the quota, is full; the transaction was rolled back."""


class StoreReadOnlyError(StoreError):
    """The file or its folder can't be written."""


class SchemaVersionError(StoreError):
    """The file was written by a newer agentmem."""

    def __init__(self, path: str, found: Sequence[str], known: Sequence[str]) -> None:
        super().__init__(
            f"{path} was written by a newer agentmem (it has the migrations {', '.join(found)}; "
            f"this version knows up to {known[-1]})",
            hint="pip install --upgrade agentmem; the file was not touched",
        )
        self.found = tuple(found)
        self.known = tuple(known)


class EmbedderMismatchError(StoreError):
    """The file's vectors were made by another embedder."""

    def __init__(self, expected: str, found: str, reason: str) -> None:
        super().__init__(
            f"the store's vectors were made by {expected!r}, the embedder in use is {found!r}: {reason}",
            hint=f"open it with --embedder {expected}, or re-embed everything: agentmem reembed --embedder {found}",
        )
        self.expected = expected
        self.found = found


class CorruptStoreError(StoreError):
    """The SQLite file is damaged, or is no SQLite file."""


class IndexDamagedError(StoreError):
    """An index snapshot does not verify; who catches it rebuilds from SQLite and says so."""


class BackendError(AgentMemError):
    """The model's side failed. `retryable` says whether asking again may help."""

    retryable = False

    def __init__(
        self, message: str, *, hint: str = "", status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.request_id = request_id


class BackendUnavailableError(BackendError):
    """No connection, or the server says that it can't serve now."""

    retryable = True


class BackendTimeoutError(BackendError):
    """No answer in time."""

    retryable = True


class RateLimitedError(BackendError):
    """The server asks to slow down."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.retry_after_s = retry_after_s


class BadRequestError(BackendError):
    """The server refuses the request as it is."""


class BadCompletionError(BackendError):
    """The model, or the server, answered with something that can't be used."""


class CompressionError(AgentMemError):
    """A compressor can't do its work, or broke a law; the text is used as it is."""

    def __init__(self, compressor: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"compressor {compressor}: {problem}", hint=hint)
        self.compressor = compressor


class AgentRunError(AgentMemError):
    """The turn was stopped; everything said so far is in recall storage."""

    def __init__(self, message: str, *, steps: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.steps = steps


class StepLimitError(AgentRunError):
    """The model used all its steps without a reply."""


class RepeatedFailureError(AgentRunError):
    """The same call failed in the same way twice in a row."""
