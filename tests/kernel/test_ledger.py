"""The exact ledger: a token belongs to the section of its first character, and the sections sum."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from agentmem.context import Written
from agentmem.encoding import Encoding, Piece, shared_prefix, shared_with_reply
from agentmem.ledger import Bookkeeper
from agentmem.tools import SPECS
from agentmem.types import ToolCall
from tests.counters import PieceCounter

NOW = datetime(2023, 5, 8, tzinfo=UTC)
CALL = ToolCall("a", "conversation_search", '{"query": "tea"}')
PROMPT = (
    Written("system", (("system", "You are x."), ("core", "<human> likes tea"), ("summary", "They met."))),
    Written("user", (("queue", "hello there you"),)),
    Written("assistant", (("queue", ""),), (CALL,)),
    Written("tool", (("queue", '{"found": 1}'),), tool_call_id="a"),
    Written("user", (("tail", "paged in"), ("tail", "Now: noon"), ("tail", "And you?"))),
)


def test_each_token_is_in_the_section_of_its_first_character() -> None:
    counter = PieceCounter()
    counted = Bookkeeper(counter).ledger(PROMPT, (), 99)
    # Worked out by hand with PieceCounter's rule; line ends between segments belong to the segment before.
    assert dict(counted.sections) == {
        "system": 4, "core": 5, "summary": 1, "compressed": 0, "queue": 3 + 2 + 2, "tail": 6, "template": 13,
    }  # fmt: skip
    assert (counted.total, counted.exact) == (sum(counted.sections.values()), True)


def test_tools_are_of_the_system_section() -> None:
    counter = PieceCounter()
    plain, full = Bookkeeper(counter).ledger(PROMPT, (), 99), Bookkeeper(counter).ledger(PROMPT, SPECS, 99)
    more = full.total - plain.total
    assert more > 50 and full.sections["system"] == plain.sections["system"] + more
    assert {k: v for k, v in full.sections.items() if k != "system"} == {
        k: v for k, v in plain.sections.items() if k != "system"
    }


@given(st.lists(st.lists(st.tuples(st.sampled_from(["queue", "tail"]), st.text("ab <\n", max_size=9)), max_size=3)))
def test_the_sections_always_sum(messages: list[list[tuple[str, str]]]) -> None:
    written = [PROMPT[0], *(Written("user", tuple(m)) for m in messages)]
    counted = Bookkeeper(PieceCounter()).ledger(written, SPECS, 99)
    assert sum(counted.sections.values()) == counted.total
    assert min(counted.sections.values()) >= 0


def test_the_same_message_in_another_section_is_counted_there() -> None:
    books = Bookkeeper(PieceCounter())
    for section, other in (("tail", "queue"), ("queue", "tail"), ("tail", "queue")):
        counted = books.ledger((PROMPT[0], Written("user", ((section, "one two three"),))), (), 99)
        assert (counted.sections[section], counted.sections[other]) == (3, 0)


def test_where_only_numbers_are_known_the_parts_are_counted_apart() -> None:
    blind = Encoding((Piece("", tuple(range(40)), (0,) * 40),), ((0, 5),))
    counted = Bookkeeper(PieceCounter()).ledger(PROMPT, (), 99, blind)
    assert counted.total == 40 == sum(counted.sections.values()) and counted.sections["tail"] == 6


ids = st.lists(st.integers(0, 2), max_size=6)


@given(st.lists(ids, max_size=5), st.lists(ids, max_size=5), ids)
def test_the_shared_prefix_is_that_of_the_tokens(a: list[list[int]], b: list[list[int]], said: list[int]) -> None:
    def encoding(parts: list[list[int]]) -> Encoding:
        pieces = tuple(Piece("x" * len(p), tuple(p), tuple(range(len(p)))) for p in parts)
        return Encoding(pieces, tuple((n, n + 1) for n in range(len(parts))))

    def brute(x: list[int], y: list[int]) -> int:
        return next((n for n, (i, j) in enumerate(zip(x, y, strict=False)) if i != j), min(len(x), len(y)))

    one, two = encoding(a), encoding(b)
    flat_a, flat_b = [i for p in a for i in p], [i for p in b for i in p]
    assert shared_prefix(one, two) == brute(flat_a, flat_b)
    assert shared_with_reply(one, said, two) == brute(flat_a + said, flat_b)
    assert (len(one), list(one.ids), one.text) == (len(flat_a), flat_a, "x" * len(flat_a))
