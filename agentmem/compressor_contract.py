# ruff: noqa: D102
"""The laws of `agentmem.protocols.Compressor` as a test class: inherit it, give its fixture, and pytest runs them.

Nothing here imports pytest. The laws on any text are methods that begin with `law_`: a suite with Hypothesis calls them
from properties of its own (`tests/compressors/laws.py` of agentmem does).
"""

from __future__ import annotations

from collections.abc import Sequence

from agentmem.compression import Compressed, CompressionRequest, Part, Spans, fault, shown, shown_tokens
from agentmem.cutting import cutting
from agentmem.protocols import Compressor, TokenCounter
from agentmem.tokens import approximate_counter

STORY = (
    "Well, so I was really thinking about it for quite a while, you know. Anna is no longer vegetarian since May 2023. "
    "She moved from Porto to Lisbon, and her new flat is at Rua Augusta 12. It was such a lovely day, to be honest! "
    'The invoice INV-2041 over 310.50 euros was not paid, and she said "never again" to the landlord. '
    "Anyway, we just had some coffee and talked about this and that for the whole of the afternoon."
)
CODE = "Try this, it should work for you:\n```python\ndef f(x):\n    return x ** 2\n```\nAnd then tell me how it went."
JSON = 'He sent me {"city": "Lisbon", "rooms": 3, "paid": false} and then he was gone for the rest of the day.'
ODD = (
    "我昨天不再吃素了。今天去里斯本看了新房子，租金是三百欧元。天气很好，我们聊了很久。",
    "لم أعد نباتيًا منذ مايو. انتقلت آنا إلى لشبونة في عام 2023، وكان اليوم جميلاً جدًا.",
    "👩‍👩‍👧‍👦 We went to the beach 🏖️! It was not cold 🥶 at all, e\u0301te\u0301 was great. 🇵🇹 And then home.",
    "Ich esse kein Fleisch mehr. Übrigens war das Wetter gestern wirklich sehr schön, und wir haben lange geredet.",
)
TEXTS = (STORY, CODE, JSON, *ODD)
MUST_STAY = ("no longer", "not paid", "INV-2041", "310.50", '"never again"')


class CompressorContract:
    """Laws of Compressor. Override the fixture `compressor`; and `counter`, `keep` where they differ."""

    query = "Where does Anna live, and what does she eat?"

    def counter(self) -> TokenCounter:
        return approximate_counter()

    def keep(self) -> frozenset[str]:
        """The words that the compressor was told to keep."""
        return frozenset()

    def request(self, text: str, share: float = 0.5, query: str | None = None) -> CompressionRequest:
        counter = self.counter()
        asked = self.query if query is None else query
        return CompressionRequest((Part(text),), int(share * counter.count(text)), counter, asked)

    def requests(self) -> list[CompressionRequest]:
        return [self.request(t, share, q) for t in TEXTS for share in (0.3, 0.6, 0.9) for q in (self.query, "")]

    # -- laws on any request ----------------------------------------------------------------------------------

    def law_result(self, request: CompressionRequest, found: Compressed | None) -> None:
        """Smaller, within the budget, true spans; what is protected survives."""
        if found is None:
            return
        assert fault(request, found) == "", fault(request, found)
        assert found.num_tokens == shown_tokens(request.parts, found.parts, request.counter)
        assert 0.0 <= found.worth <= 1.0
        self.law_protected(request.parts, found.parts)
        cut = cutting(request.parts, self.keep())
        for n, spans in enumerate(found.parts):
            here = [u for u in cut.units if u.part == n]
            # Where sentences are not apart by white space, a chunk ends with its sentence.
            edges = [c for u in here for c in (*cut.chunks[u.first : u.last], (u.start, u.end))]
            starts, ends = {s for s, _ in edges}, {e for _, e in edges}
            assert all(s in starts and e in ends for s, e in spans), "it tears a word"

    def law_protected(self, parts: Sequence[Part], kept: Sequence[Spans]) -> None:
        """Of each unit that is begun, what is protected is there; code and JSON are whole or out."""
        found = cutting(parts, self.keep())
        for unit in found.units:
            spans = kept[unit.part]
            if not any(s < unit.end and unit.start < e for s, e in spans):
                continue
            for n in range(unit.first, unit.last):
                s, e = found.chunks[n]
                if found.protected[n]:
                    text = found.parts[unit.part].text
                    assert any(a <= s and e <= b for a, b in spans), (
                        f"{text[s:e]!r} is left out of {found.text(unit)!r}"
                    )

    def law_second_pass(self, compressor: Compressor, request: CompressionRequest, found: Compressed | None) -> None:
        """What was compressed to a target is not compressed again to the same one."""
        if found is None:
            return
        texts = [shown(p.text, s) for p, s in zip(request.parts, found.parts, strict=True) if s]
        again = CompressionRequest(
            tuple(Part(t) for t in texts), request.target_tokens, request.counter, request.query, request.max_tokens
        )
        assert compressor.compress([again]) == [None], "a second pass changes the text"

    # -- tests ------------------------------------------------------------------------------------------------

    def test_says_what_it_is(self, compressor: Compressor) -> None:
        assert compressor.name and compressor.fingerprint
        assert isinstance(compressor.question_aware, bool) and isinstance(compressor.joint, bool)

    def test_one_result_per_request_in_order(self, compressor: Compressor) -> None:
        assert compressor.compress([]) == []
        requests = self.requests()
        together = compressor.compress(requests)
        assert len(together) == len(requests)
        for n in (0, len(requests) // 2, -1):
            assert compressor.compress([requests[n]]) == [together[n]], "a result depends on its neighbours"

    def test_it_compresses(self, compressor: Compressor) -> None:
        found = compressor.compress([self.request(STORY, 0.7)])[0]
        assert found is not None, "a plain story is not made shorter"

    def test_results_keep_the_laws(self, compressor: Compressor) -> None:
        requests = self.requests()
        for request, found in zip(requests, compressor.compress(requests), strict=True):
            self.law_result(request, found)

    def test_the_same_again(self, compressor: Compressor) -> None:
        requests = self.requests()
        assert compressor.compress(requests) == compressor.compress(requests)

    def test_a_second_pass_changes_nothing(self, compressor: Compressor) -> None:
        requests = self.requests()
        for request, found in zip(requests, compressor.compress(requests), strict=True):
            self.law_second_pass(compressor, request, found)

    def test_no_fact_is_inverted(self, compressor: Compressor) -> None:
        for share in (0.25, 0.5, 0.75):
            found = compressor.compress([self.request(STORY, share)])[0]
            if found is None:
                continue
            text = shown(STORY, found.parts[0])
            for sentence in (s for s in STORY.split(". ") if any(m in s for m in MUST_STAY)):
                said = [m for m in MUST_STAY if m in sentence]
                others = [w for w in ("vegetarian", "invoice", "landlord") if w in sentence]
                if any(w in text for w in others):
                    assert all(m in text for m in said), f"{said} is lost in {text!r}"

    def test_what_fits_is_left_alone(self, compressor: Compressor) -> None:
        assert compressor.compress([self.request(t, 1.0) for t in TEXTS]) == [None] * len(TEXTS)

    def test_nothing_to_do(self, compressor: Compressor) -> None:
        counter = self.counter()
        for parts in ((), (Part(""),), (Part(" \n"), Part(""))):
            assert compressor.compress([CompressionRequest(parts, 0, counter, self.query)]) == [None]
        assert compressor.compress([CompressionRequest((Part(STORY),), 0, counter, self.query)]) == [None]

    def test_a_call_stays_with_its_result(self, compressor: Compressor) -> None:
        counter = self.counter()
        parts = (
            Part(STORY),
            Part('{"name": "archival_memory_search", "arguments": {"query": "flat"}}', unit="c1"),
            Part('{"results": ["Rua Augusta 12 is the new flat of Anna"]}', unit="c1"),
            Part("I see. So it is in the middle of the town, and not by the sea at all.", 0.1),
        )
        total = sum(counter.count(p.text) for p in parts)
        for share in (0.2, 0.5, 0.8):
            request = CompressionRequest(parts, int(share * total), counter, self.query)
            self.law_result(request, compressor.compress([request])[0])

    def test_one_long_line(self, compressor: Compressor) -> None:
        words = ("alpha beta the of a and " * 4).split()
        text = " ".join(words[n % len(words)] for n in range(self.long_words()))
        request = self.request(text, 0.5)
        self.law_result(request, compressor.compress([request])[0])

    def long_words(self) -> int:
        return 50_000

    def test_odd_texts(self, compressor: Compressor) -> None:
        for text in (
            "\x00" * 50,
            "half a pair: \ud83d " * 9,
            "{" * 400,
            "```\n" * 30,
            "a\u2028b\u0085c " * 20,
            "?" * 999,
        ):
            request = self.request(text, 0.5)
            self.law_result(request, compressor.compress([request])[0])
