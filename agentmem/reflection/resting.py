"""What derived passages rest on: whether it still stands, how new it is; and whether a text says what another does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentmem.language import words
from agentmem.times import format_time, utc_seconds
from agentmem.types import Message, Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.reflection.view import View

SAME_COSINE = 0.9


def current(view: View, kind: str) -> list[Passage]:
    """The passages of a kind that nothing has closed, by id; also what begins to hold later (a clock may have been set
    back since)."""
    now = utc_seconds(view.now)
    found = view.passages(kinds=[kind], closed=True)
    return [p for p in found if p.valid_to is None or utc_seconds(p.valid_to) > now]


def record_of(view: View, ref: str) -> Message | Passage | None:
    """The evidence of a ref."""
    return view.message(ref) if ref.startswith("m") else view.passage(ref)


def fallen(view: View, kind: str) -> list[tuple[Passage, str]]:
    """Passages of a kind that hold and whose ground does not (any more), oldest first, each with the reason: a record
    that it names was erased, closed, or has fallen itself."""
    found: dict[str, tuple[Passage, str]] = {}
    now = utc_seconds(view.now)
    for passage in current(view, kind):
        for source in passage.sources:
            record = record_of(view, source)
            if record is None:
                reason = f"{source} is not there any more"
            elif source in found:
                reason = f"{source} does not stand any more"
            elif isinstance(record, Passage) and _ended(record, now):
                reason = f"{source} holds no longer"
            else:
                continue
            found[passage.ref] = (passage, reason)
            break
    return list(found.values())


def _ended(passage: Passage, now: float) -> bool:
    return passage.valid_to is not None and utc_seconds(passage.valid_to) <= now


def newest_time(records: Sequence[Message | Passage], view: View) -> str | None:
    """When the newest of records was said or began to hold, as ISO 8601; None when that is yet to come."""
    newest = max((r.at if isinstance(r, Message) else r.valid_from for r in records), key=utc_seconds)
    return format_time(newest) if utc_seconds(newest) <= utc_seconds(view.now) else None


class Known:
    """Texts that are there already, and what is added to them: `like` finds one that says the same (cosine of at least
    0.9; without an embedder, the same words)."""

    def __init__(self, view: View, passages: Sequence[Passage]) -> None:
        self._view = view
        self._names = [p.ref for p in passages]
        self._texts = [p.text for p in passages]
        self._words = [_words(p.text) for p in passages]
        self._vectors: NDArray[np.float32] | None = None

    def like(self, text: str, by_words: bool = False) -> str:
        """The name of what says the same; "" when nothing does. `by_words`: only the same words count (for texts of one
        template, whose vectors are all alike)."""
        said = _words(text)
        if said in self._words:
            return self._names[self._words.index(said)]
        if by_words or not self._texts:
            return ""
        vector = self._view.vectors([text])
        if vector is None:
            return ""
        cosines = self._embedded() @ vector[0]
        best = int(cosines.argmax())
        return self._names[best] if float(cosines[best]) >= SAME_COSINE else ""

    def add(self, text: str, name: str) -> None:
        """One more."""
        self._names.append(name)
        self._texts.append(text)
        self._words.append(_words(text))

    def _embedded(self) -> NDArray[np.float32]:
        """A row a text; those that were added since are embedded first."""
        import numpy as np

        known = 0 if self._vectors is None else len(self._vectors)
        if known < len(self._texts):
            new = self._view.vectors(self._texts[known:])
            assert new is not None
            self._vectors = new if self._vectors is None else np.vstack([self._vectors, new])
        assert self._vectors is not None
        return self._vectors


def _words(text: str) -> list[str]:
    return [w.lower() for w in words(text)]
