"""A compressor within bounds: it is asked only where it can gain, has to keep its laws and its time, and when it fails
the text is used as it is, which is said once.

Results for frozen text are kept by content (`agentmem.derived`); those for a query are made anew.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from agentmem.compression import Compressed, CompressionRequest, Part, fault, shown
from agentmem.derived import decode, derived_key, encode, spans_of
from agentmem.errors import AgentMemError, CompressionError
from agentmem.protocols import Compressor, OffersForms, TokenCounter
from agentmem.types import Hit, PageItem

if TYPE_CHECKING:
    from agentmem.store.derived import Derived

BREAK_EVEN_TOKENS = 12
"""Shorter records are never shortened: what is left out of them is less than what it takes to say whose they are."""
SHARES = (0.65, 0.4)
"""Of its tokens a record is offered in, beside the whole, by compressors without forms of their own; a long one in less
too. All shares are asked for together: a model that reads a text alike for any share reads it once."""
LONG_SHARES = (0.2,)
LONG_TOKENS = 160
JOINT_SHARE = 3.0
"""A compressor that weighs records against each other is given so many times the page's tokens of them."""
TIME_LIMIT_S = 30.0

T = TypeVar("T")
Cosines = Callable[[Sequence[Hit]], Mapping[str, Sequence[tuple[int, int, float]]]]
"""What the archive knows of hits: (start, end, cosine with the query) of their sentences, by hit id."""


def shortened_worth(max_tokens: int) -> float:
    """What a compressed record is worth against the whole one, of equal evidence: readers prefer whole sentences. At
    512 tokens nine tenths; less where a page is roomy, since little is gained there."""
    return min(0.98, max(0.7, 0.98 - 0.1 * math.log2(max(1, max_tokens) / 512)))


class Compressing:
    """Asks a compressor, and answers None where it can't or should not be asked. `report` is told of a failure, once a
    kind."""

    def __init__(
        self, compressor: Compressor, report: Callable[[str], None], time_limit_s: float = TIME_LIMIT_S
    ) -> None:
        self.compressor = compressor
        self._report = report
        self._limit = time_limit_s
        self._said: set[str] = set()
        self._failures = 0
        self._late = False

    @property
    def quick(self) -> bool:
        """Whether it is agentmem's own that runs no model: then a flush may wait for it within its transaction."""
        return self.compressor.name == "extractive"

    def compress(self, requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
        """One result per request; None where the text is to be used as it is."""
        if not requests or self._late:
            return [None] * len(requests)
        try:
            found = self._in_time(lambda: self.compressor.compress(requests))
            if len(found) != len(requests):
                raise CompressionError(
                    self.compressor.name, f"it gave {len(found)} results for {len(requests)} requests"
                )
            # What is no result at all raises here.
            wrong = [
                fault(request, result) if result is not None else ""
                for request, result in zip(requests, found, strict=True)
            ]
        except Exception as e:  # noqa: BLE001 - a plug-in may raise anything; the turn goes on, and says so
            self._failed(e)
            return [None] * len(requests)
        for problem in filter(None, wrong):
            self._say(problem)
        return [None if problem else result for problem, result in zip(wrong, found, strict=True)]

    def frozen(self, requests: Sequence[CompressionRequest], kept: Derived, at: datetime) -> list[Compressed | None]:
        """Question-agnostic compression of one text a request, taken from what is kept where it was made before."""
        keys = [
            derived_key(
                "compressed", self.compressor.fingerprint, r.counter.name, str(r.target_tokens), r.parts[0].text
            )
            for r in requests
        ]
        clears = kept.clears()
        fresh: dict[bytes, bytes] = {}
        out: list[Compressed | None] = []
        missing: list[int] = []
        for n, (request, key) in enumerate(zip(requests, keys, strict=True)):
            text = request.parts[0].text
            spans = decode(kept.get("compressed", key), partial(spans_of, length=len(text)))
            out.append(None if not spans else Compressed((spans,), request.counter.count(shown(text, spans))))
            if spans is None:
                missing.append(n)
        for n, found in zip(missing, self.compress([requests[n] for n in missing]), strict=True):
            out[n] = found
            # () stands for a text that can't be made smaller. What failed is tried again another time.
            if found is not None or not self._failures:
                fresh[keys[n]] = encode([list(s) for s in found.parts[0]] if found else [])
        if fresh:  # not once something was erased meanwhile
            kept.put_all("compressed", fresh, at, since=clears)
        return out

    def forms(self, parts: Sequence[Part], query: str, counter: TokenCounter) -> list[list[Compressed]]:
        """Shorter forms of each part, from a compressor that offers them."""
        offers = self.compressor
        assert isinstance(offers, OffersForms)
        if not parts or self._late:
            return [[] for _ in parts]
        try:
            found = self._in_time(lambda: offers.forms(parts, query, counter))
            if len(found) != len(parts):
                raise CompressionError(self.compressor.name, f"it gave forms of {len(found)} parts for {len(parts)}")
            # What a form costs is counted where it is packed.
            good = [[f for f in forms if _is_form(part, f)] for part, forms in zip(parts, found, strict=True)]
        except Exception as e:  # noqa: BLE001 - as above
            self._failed(e)
            return [[] for _ in parts]
        if any(len(some) < len(forms) for some, forms in zip(good, found, strict=True)):
            self._say("a form is not ascending parts of its text, or its worth not in [0, 1]")
        return good

    def shorten(self, query: str, counter: TokenCounter, cosines: Cosines, worth: Mapping[str, float]) -> Shortener:
        """What `agentmem.paging.pack` asks for shorter forms of hits."""
        return Shortener(self, query, counter, cosines, worth)

    def _in_time(self, work: Callable[[], T]) -> T:
        if self.quick:  # a thread costs more than it
            return work()
        done: list[T] = []
        raised: list[BaseException] = []

        def run() -> None:
            try:
                done.append(work())
            except BaseException as e:  # noqa: BLE001 - raised again where it is waited for
                raised.append(e)

        # Not a pool's: the end of the process waits for those, and this one may never end.
        thread = Thread(target=run, name="agentmem-compress", daemon=True)
        thread.start()
        thread.join(self._limit)
        if raised:
            raise raised[0]
        if done:
            return done[0]
        # What runs can't be stopped; it is not asked again, or each turn would wait for it.
        self._late = True
        raise CompressionError(
            self.compressor.name, f"took longer than {self._limit:g} s", hint="it is not asked again in this process"
        )

    def _failed(self, error: Exception) -> None:
        if isinstance(error, AgentMemError):
            self._say(f"{type(error).__name__}: {error.message}")
        else:
            self._say(f"{type(error).__name__}: {error}", kind=type(error).__name__)

    def _say(self, problem: str, *, kind: str = "") -> None:
        self._failures += 1
        # Numbers (of tokens, of parts) make no new kind.
        kind = kind or re.sub(r"\d+", "", problem)
        if kind not in self._said:
            self._said.add(kind)
            self._report(f"compressor {self.compressor.name}: {problem}; the text is used as it is")


def _is_form(part: Part, form: Compressed) -> bool:
    (spans,) = form.parts
    last = -1
    for start, end in spans:
        if not last < start < end <= len(part.text):
            return False
        last = end
    return last >= 0 and 0.0 <= form.worth <= 1.0


class Shortener:
    """Shorter forms of hits for one page."""

    def __init__(
        self, asks: Compressing, query: str, counter: TokenCounter, cosines: Cosines, worth: Mapping[str, float]
    ) -> None:
        self._asks = asks
        self._query = query
        self._counter = counter
        self._cosines = cosines
        self._worth = worth

    def __call__(
        self, hits: Sequence[Hit], costs: Sequence[int], max_tokens: int
    ) -> Sequence[Sequence[tuple[PageItem, float]]]:
        """For each hit its shorter forms and the share of its worth that each keeps; () where there is none."""
        if self._asks.compressor.joint:
            return self._together(hits, costs, max_tokens)
        chosen: list[int] = []
        total = 0
        for n, cost in enumerate(costs):
            # What comes after is too far down to get into the page, however short.
            if total > max_tokens * 3:
                break
            total += min(cost, max_tokens)
            text = hits[n].text
            if len(text) > 20 * BREAK_EVEN_TOKENS or self._counter.count(text) >= BREAK_EVEN_TOKENS:
                chosen.append(n)
        known = self._cosines([hits[n] for n in chosen])
        out: list[list[tuple[PageItem, float]]] = [[] for _ in hits]
        factor = shortened_worth(max_tokens)
        if isinstance(self._asks.compressor, OffersForms):
            parts = [self._part(hits[n], known.get(hits[n].id, ())) for n in chosen]
            for n, forms in zip(chosen, self._asks.forms(parts, self._query, self._counter), strict=True):
                out[n] = [(PageItem.short(hits[n], f.parts[0]), factor * f.worth) for f in forms]
            return out
        requests: list[CompressionRequest] = []
        owners: list[int] = []
        for n in chosen:
            part = self._part(hits[n], known.get(hits[n].id, ()))
            size = self._counter.count(hits[n].text) if len(hits[n].text) <= 40 * max_tokens else 10 * max_tokens
            shares = (*SHARES, *LONG_SHARES) if size >= LONG_TOKENS else SHARES
            for target in sorted({min(int(share * size), max_tokens) for share in shares}, reverse=True):
                if BREAK_EVEN_TOKENS // 2 <= target < size:
                    requests.append(CompressionRequest((part,), target, self._counter, self._query))
                    owners.append(n)
        for n, found in zip(owners, self._asks.compress(requests), strict=True):
            if found is not None:
                out[n].append((PageItem.short(hits[n], found.parts[0]), factor * found.worth))
        return out

    def _together(
        self, hits: Sequence[Hit], costs: Sequence[int], max_tokens: int
    ) -> Sequence[Sequence[tuple[PageItem, float]]]:
        out: list[list[tuple[PageItem, float]]] = [[] for _ in hits]
        count = total = 0
        while count < len(hits) and total < JOINT_SHARE * max_tokens:
            total += costs[count]
            count += 1
        # A label costs about as much as the break-even; the result shall fit with it.
        target = max(1, max_tokens - BREAK_EVEN_TOKENS * count // 2)
        known = self._cosines(hits[:count])
        parts = tuple(self._part(h, known.get(h.id, ())) for h in hits[:count])
        found = self._asks.compress([CompressionRequest(parts, target, self._counter, self._query)])[0]
        if found is not None:
            for n, spans in enumerate(found.parts):
                if spans and spans != ((0, len(hits[n].text)),):
                    out[n].append((PageItem.short(hits[n], spans), shortened_worth(max_tokens)))
        return out

    def _part(self, hit: Hit, sentences: Sequence[tuple[int, int, float]]) -> Part:
        return Part(hit.text, self._worth.get(hit.id, 1.0), tuple(sentences))
