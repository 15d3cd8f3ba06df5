"""What stands in the prompt without agentmem: the usual ways to choose records of a history for a question.

- *no memory*: nothing
- *last messages*: the newest that fit
- *full context*: all; where they do not fit, the middle is left out, as LongBench does (arXiv 2308.14508, section 3.2)
- *dense top-k*: the nearest by cosine, a record embedded as "Name: text", the question as it is
- *BM25*: those that share words with the question, by the store's full-text index (Porter stems, no stop words)

Each fills the prompt as far as the window allows, unless `top_k` says how many records a ranking may bring.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agentmem.language import content_words
from agentmem.paging import pack, page_text
from agentmem.types import EMPTY_PAGE, Hit, Message, Page, PageItem, Tier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.memory import Memory
    from agentmem.protocols import Embedder, TokenCounter

Choose = Callable[[str, int], Page]
"""(question, tokens) -> the records that stand in the prompt, within so many tokens."""
_STEP = 32
"""Rooms are rounded down to a multiple of this: for most questions the same records are then the newest that fit."""


def nothing(question: str, max_tokens: int) -> Page:
    """No records."""
    return EMPTY_PAGE


def hit(message: Message, score: float, parts: dict[str, float] | None = None) -> Hit:
    """A message as a search result."""
    return Hit(
        message.ref, Tier.RECALL, message.said, score, message.at, key=message.key, name=message.name,
        role=message.role, session=message.session, parts=parts,
    )  # fmt: skip


def spoken(message: Message) -> str:
    """What was said, with the speaker's name where there is one."""
    return f"{message.name}: {message.said}" if message.name else message.said


class Unranked:
    """The newest messages that fit, or with `middle_out` the oldest and the newest, half of the room for each.

    Who reads a prompt whole needs no scores. The extractive reader looks at the best forty records: here those that
    share most words with the question, by how rare they are, so that it too can read what stands anywhere.
    """

    def __init__(self, messages: Sequence[Message], counter: TokenCounter, *, middle_out: bool) -> None:
        self._messages = messages
        self._counter = counter
        self._middle_out = middle_out
        self._words = [frozenset(content_words(m.said)) for m in messages]
        counts = Counter(w for words in self._words for w in words)
        self._rarity = {w: math.log(1 + len(messages) / n) for w, n in counts.items()}
        self._fitting: dict[int, list[int]] = {}

    def __call__(self, question: str, max_tokens: int) -> Page:
        """The page for a question."""
        room = max_tokens - max_tokens % _STEP or max_tokens
        if room not in self._fitting:
            self._fitting[room] = self._fit(room)
        asked = set(content_words(question))
        items = []
        for n in self._fitting[room]:
            shared = sum(self._rarity[w] for w in sorted(asked & self._words[n]))
            item = hit(self._messages[n], round(shared, 6))
            items.append(PageItem(item, 0, len(item.text)))
        text = page_text(items)
        return Page(text, self._counter.count(text), tuple(items)) if items else EMPTY_PAGE

    def _fit(self, room: int) -> list[int]:
        """The places of the messages that stand in so many tokens, in order."""
        count = len(self._messages)
        if self._cost(range(count)) <= room:
            return list(range(count))
        if not self._middle_out:
            return list(range(count - self._most(lambda n: range(count - n, count), room), count))
        first = self._most(range, room // 2)
        last = self._most(lambda n: [*range(first), *range(count - n, count)], room)
        return [*range(first), *range(count - last, count)]

    def _most(self, places: Callable[[int], Sequence[int]], room: int) -> int:
        """The largest number for which the messages at `places(number)` fit; 0 where not even one does."""
        low, high = 0, len(self._messages)
        while low < high:
            middle = (low + high + 1) // 2
            if self._cost(places(middle)) <= room:
                low = middle
            else:
                high = middle - 1
        return low

    def _cost(self, places: Sequence[int]) -> int:
        hits = [hit(self._messages[n], 0.0) for n in places]
        return self._counter.count(page_text([PageItem(h, 0, len(h.text)) for h in hits]))


class Dense:
    """The messages nearest to the question."""

    def __init__(self, embedder: Embedder, counter: TokenCounter, top_k: int | None) -> None:
        self._embedder = embedder
        self._counter = counter
        self._top_k = top_k
        self._messages: list[Message] = []
        self._rows: list[NDArray[np.float32]] = []

    def add(self, messages: Sequence[Message]) -> None:
        """Embed messages."""
        self._rows += list(self._embedder.embed([spoken(m) for m in messages], input_type="document"))
        self._messages += messages

    def __call__(self, question: str, max_tokens: int) -> Page:
        """The page for a question."""
        import numpy as np

        scores = np.stack(self._rows) @ self._embedder.embed([question], input_type="query")[0]
        order = np.argsort(-scores, kind="stable")[: self._top_k]
        hits = [hit(self._messages[n], float(scores[n]), {"cosine": float(scores[n])}) for n in order]
        return pack(hits, question, max_tokens, self._counter)


class Lexical:
    """The messages of a memory that share words with the question, by BM25."""

    def __init__(self, memory: Memory, top_k: int | None) -> None:
        self._recall = memory.records.recall
        self._memory = memory
        self._top_k = top_k

    def __call__(self, question: str, max_tokens: int) -> Page:
        """The page for a question."""
        index = self._recall.lexical
        found = dict(index.search(index.terms(question), top_k=self._top_k))
        hits = [hit(m, found[m.id], {"bm25": found[m.id]}) for m in self._recall.get(list(found)) if m.searchable]
        return pack(hits, question, max_tokens, self._memory.shape.counter)
