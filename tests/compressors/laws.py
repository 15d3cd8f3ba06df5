"""The laws of a compressor on generated requests: inherit `GeneratedLaws` beside the contract class.

    class TestLaws(GeneratedLaws):
        @pytest.fixture
        def compressor(self): ...

The texts are sentences in several languages, code, JSON, emoji and plain noise, in parts that may belong together.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.compression import CompressionRequest, Part
from agentmem.compressor_contract import ODD, STORY
from agentmem.cutting import units
from agentmem.protocols import Compressor
from agentmem.testing import CompressorContract
from agentmem.tokens import approximate_counter

SENTENCES = (
    *(text[s:e] for text in (STORY, *ODD) for s, e, _ in units(text)),
    "No.",
    "Not really!",
    "Yes, absolutely, of course we did, it was such a nice and warm evening.",
    "Ben: I don't eat meat any more, but Carla still does.",
    "The key is `a_b[0]` and the mail address anna.s+x@example.org, isn't it?",
    "Она больше не живёт в Порту, и мы долго разговаривали об этом вчера вечером.",
    "彼女はもうベジタリアンではありません。「絶対に」と言いました。",
    "היא כבר לא גרה בפורטו, ודיברנו על זה הרבה זמן אתמול בערב.",
    "🎉🎉🎉 Party at 7:30 pm 👨‍👩‍👧, bring some of the wine 🍷!",
)
BLOCKS = (
    "```python\nfor n in range(3):\n    print(n)  # no more than 3\n```",
    "~~~\nnever closed: ```\nx = {1: 2}\n~~~",
    '{"name": "Anna", "tags": ["a", "b"], "paid": false, "note": "not now"}',
    '["one", "two", {"three": [3, 3.5]}]',
    "```\n",
    '{"broken": [1, 2',
)
SPACES = (" ", " ", "\n", "\n\n", "  ", "\t", "\u00a0", "")
noise = st.text(st.characters(codec=None), max_size=40)
pieces = st.one_of(st.sampled_from(SENTENCES), st.sampled_from(SENTENCES), st.sampled_from(BLOCKS), noise)


def asked(*texts: str, share: float = 0.5, query: str = "") -> CompressionRequest:
    """A request for a share of the tokens of some texts, a part each."""
    counter = approximate_counter()
    parts = tuple(Part(t) for t in texts)
    return CompressionRequest(parts, int(share * sum(counter.count(t) for t in texts)), counter, query)


@st.composite
def texts(draw: st.DrawFn, max_pieces: int = 8) -> str:
    """A text of some pieces with white space, or nothing, between them."""
    chosen = draw(st.lists(pieces, max_size=max_pieces))
    return "".join(p + draw(st.sampled_from(SPACES)) for p in chosen)


@st.composite
def part_lists(draw: st.DrawFn) -> tuple[Part, ...]:
    """One to three parts, some of them a call and its result."""
    units_of = st.sampled_from(("", "", "u1"))
    worth = st.sampled_from((0.0, 0.3, 1.0))
    return tuple(Part(draw(texts()), draw(worth), (), draw(units_of)) for _ in range(draw(st.integers(1, 3))))


class GeneratedLaws(CompressorContract):
    """The contract, and its laws on generated requests. `examples`: how many, for a compressor that takes long."""

    examples = 60

    def test_generated_requests_keep_the_laws(self, compressor: Compressor) -> None:
        counter = self.counter()

        @settings(max_examples=self.examples)
        @given(part_lists(), st.floats(0, 1.1), st.floats(0, 0.3), st.sampled_from((self.query, "")))
        def holds(parts: tuple[Part, ...], share: float, more: float, query: str) -> None:
            total = sum(counter.count(p.text) for p in parts)
            target = int(share * total)
            request = CompressionRequest(parts, target, counter, query, int(target + more * total))
            found = compressor.compress([request])[0]
            if total <= target:
                assert found is None, "what fits was changed"
            self.law_result(request, found)
            self.law_second_pass(compressor, request, found)
            assert compressor.compress([request]) == [found], "the same request gave another result"

        holds()
