"""The order of requests: laws, against oracles that know nothing of tries; what it saves under a simulated cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.encoding import Encoding, Piece
from agentmem.errors import BadRequestError, ConfigError
from agentmem.protocols import PromptTokenizer
from agentmem.reflection.batch_order import BLOCK_SIZE, arranged, in_batches, paths, predicted
from agentmem.reflection.questioning import Asked, Budget, Cost, Questioning
from agentmem.scripted import ScriptedBackend
from agentmem.tokens import approximate_counter
from agentmem.types import ChatMessage, Request
from benchmarks import batch_prefix
from benchmarks.batch_jobs import BlockCache, jobs


class Letters:
    """A token a character of the contents; a template that refuses messages of the role `tool`."""

    name, exact, additive, incremental, how = "letters", True, True, False, "a token a character"

    def count(self, text):
        return len(text)

    def count_message(self, message):
        return len(message.content)

    def count_prompt(self, messages, tools=()):
        return sum(len(m.content) for m in messages)

    def encode_prompt(self, messages, tools=()):
        if any(m.role == "tool" for m in messages):
            raise BadRequestError("the template refuses it")
        text = "".join(m.content for m in messages)
        return Encoding((Piece(text, tuple(map(ord, text)), tuple(range(len(text)))),), ((0, len(messages)),))

    def rerendered(self, message, ids):
        return ""


LETTERS = Letters()


def ask(text: str, max_tokens: int = 8, salt: str | None = None) -> Request:
    return Request((ChatMessage("user", text),), max_tokens=max_tokens, cache_salt=salt)


# Few letters and short blocks, so that prefixes meet often and end anywhere in a block.
texts = st.recursive(
    st.sampled_from(["", "a", "ab", "aabb", "abab", "b" * 9]),
    lambda inner: st.tuples(inner, inner).map("".join),
    max_leaves=6,
)
asked = st.lists(
    st.builds(ask, texts, st.sampled_from([1, 8, 64]), st.sampled_from([None, None, "s"])), max_size=24
)  # fmt: skip
sizes = st.integers(1, 5)


def chains(requests: Sequence[Request], size: int) -> list[list[tuple[str | None, str]]]:
    """Each request's blocks, a block being all text up to its end; what ends with the last token is left out."""
    found = []
    for r in requests:
        text = r.messages[0].content
        found.append([(r.cache_salt, text[:end]) for end in range(size, len(text), size)])
    return found


def computed(chains: Sequence[Sequence[object]], capacity: int) -> int:
    """Blocks that a cache computes: a list whose last is the newest, written without a look at `BlockCache`."""
    kept: list[object] = []
    count = 0
    for chain in chains:
        hits = 0
        while hits < len(chain) and chain[hits] in kept:
            hits += 1
        count += len(chain) - hits
        held = list(chain[:capacity])
        others = [b for b in kept if b not in held]
        room = capacity - len(held)
        kept = (others[-room:] if room else []) + held[::-1]
    return count


@given(asked, sizes, st.integers(0, 6))
def test_every_request_once_and_always_the_same(requests, size, min_saved):
    order = arranged(requests, LETTERS, size, min_saved).order
    assert sorted(order) == list(range(len(requests)))
    assert arranged(list(requests), Letters(), size, min_saved).order == order


@given(asked, st.integers(1, 7))
def test_batches_are_the_order_cut(requests, size):
    batches = list(in_batches(requests, LETTERS, size))
    assert all(len(b) == size for b in batches[:-1]) and all(0 < len(b) <= size for b in batches)
    assert [n for b in batches for n in b] == list(arranged(requests, LETTERS).order)


@given(asked, sizes)
def test_predicted_blocks_are_those_of_an_oracle(requests, size):
    found = predicted(requests, LETTERS, size)
    expected = chains(requests, size)
    assert found.total_blocks == sum(map(len, expected))
    assert found.distinct_blocks == len({b for c in expected for b in c})
    assert found.prompt_tokens == sum(len(r.messages[0].content) for r in requests)
    assert found.prefill_tokens == found.prompt_tokens - size * (found.total_blocks - found.distinct_blocks)
    assert found.exact and found.block_size == size


@given(asked, sizes)
def test_numbered_blocks_are_the_blocks(requests, size):
    named: dict[int, object] = {}
    for path, chain in zip(paths(requests, LETTERS, size), chains(requests, size), strict=True):
        assert len(path) == len(chain)
        for number, block in zip(path, chain, strict=True):
            assert named.setdefault(number, block) == block
    assert len(set(named.values())) == len(named)


@given(asked, sizes, st.integers(0, 12), st.randoms(use_true_random=False))
def test_no_order_computes_fewer_blocks_whatever_the_cache_holds(requests, size, capacity, rng):
    """The law: one request after another, each distinct block is computed once, but for the ends of prompts that are
    longer than the whole cache, which every order computes anew. So arrival, or a shuffle, never computes fewer."""
    expected = chains(requests, size)
    order = arranged(requests, LETTERS, size).order
    ours = computed([expected[n] for n in order], capacity)
    ends = sum(len(c[capacity:]) for c in expected)
    assert ours == ends + len({b for c in expected for b in c[:capacity]})
    if not ends:
        assert ours == predicted(requests, LETTERS, size).distinct_blocks
    shuffled = rng.sample(expected, len(expected))
    assert ours <= computed(expected, capacity) and ours <= computed(shuffled, capacity)


@given(asked, sizes, st.integers(0, 40))
def test_the_simulated_cache_is_the_oracles(requests, size, capacity):
    numbered = paths(requests, LETTERS, size)
    cache = BlockCache(capacity)
    assert sum(len(p) - cache.take(p) for p in numbered) == computed(chains(requests, size), capacity)
    assert len(cache) <= capacity


@given(asked, st.sampled_from([1, 2, 3]), st.sampled_from([2, 4]))
def test_an_order_for_small_blocks_serves_larger_ones(requests, small, times):
    """An engine whose blocks are a multiple of those that were ordered computes each of its own once too."""
    order = arranged(requests, LETTERS, small).order
    larger = chains(requests, small * times)
    capacity = max(map(len, larger), default=0)
    assert computed([larger[n] for n in order], capacity) == len({b for c in larger for b in c})


@given(asked, sizes, st.integers(0, 6))
def test_equal_requests_stand_next_to_each_other(requests, size, min_saved):
    order = arranged(requests, LETTERS, size, min_saved).order
    changes = sum(requests[a] != requests[b] for a, b in pairwise(order))
    assert changes == max(0, len({(r.messages, r.max_tokens, r.cache_salt) for r in requests}) - 1)


def test_groups_by_what_they_save_and_in_them_the_longest_answer_first():
    small, big = "s" * 20, "b" * 20
    requests = [ask("alone" * 9), ask(small + "1", 5), ask(big + "1", 1), ask(small + "2", 9), ask(big + "2", 7),
                ask(big + "3", 7), ask(small + "3", 9), ask(big + "4", 2)]  # fmt: skip
    assert arranged(requests, LETTERS, 4).order == (4, 5, 7, 2, 3, 6, 1, 0)


def test_long_prompts_that_share_little_do_not_come_before_what_saves_more():
    requests = [ask("aaaa" + end * 50) for end in "12"] + [ask("bbbb" + end) for end in "123"]
    assert arranged(requests, LETTERS, 4).order == (2, 3, 4, 0, 1)


def test_a_shared_prefix_keeps_its_groups_together():
    """Two strategies, three agents each: an agent's requests together, a strategy's agents together."""
    requests = [ask(f"{s * 8}{a * 8}{n}") for n in range(2) for a in "xyz" for s in "AB"]
    order = arranged(requests, LETTERS, 4).order
    shown = [requests[n].messages[0].content for n in order]
    assert [t[0] for t in shown] == ["A"] * 6 + ["B"] * 6
    assert [t[8] for t in shown] == list("xxyyzzxxyyzz")
    assert predicted(requests, LETTERS, 4).distinct_blocks == 2 * 2 + 6 * 2


def test_what_saves_too_little_stays_in_its_order():
    requests = [ask("aaaa1"), ask("bbbb1"), ask("aaaa2"), ask("bbbb2"), ask("bbbb3")]
    assert arranged(requests, LETTERS, 4).order == (1, 3, 4, 0, 2)
    assert arranged(requests, LETTERS, 4, min_saved=1).order == (1, 3, 4, 0, 2)  # what is left needs no order
    assert arranged(requests, LETTERS, 4, min_saved=2).order == (0, 1, 2, 3, 4)


def test_other_salts_share_nothing():
    requests = [ask("a" * 9, salt="x"), ask("a" * 9, salt="y"), ask("a" * 9)]
    assert predicted(requests, LETTERS, 4).shared == 0


def test_without_a_tokenizer_characters_stand_for_tokens():
    counter = approximate_counter()
    assert not isinstance(counter, PromptTokenizer) and isinstance(LETTERS, PromptTokenizer)
    requests = [ask(start * 200 + end) for end in "1234" for start in "ab"]
    found = predicted(requests, counter)
    assert not found.exact and found.block_size == BLOCK_SIZE == 16
    assert (found.total_blocks, found.distinct_blocks) == (8 * 3, 2 * 3)
    shown = [requests[n].messages[0].content[0] for n in arranged(requests, counter).order]
    assert shown in (["a"] * 4 + ["b"] * 4, ["b"] * 4 + ["a"] * 4)


def test_text_that_is_no_unicode_is_ordered_too():
    requests = [ask("\ud800" * 90), ask("é𝄞" * 45), ask("\ud800" * 90)]
    assert arranged(requests, approximate_counter()).order == (0, 2, 1)


def test_a_prompt_that_the_template_refuses_comes_last():
    refused = Request((ChatMessage("tool", "x" * 40),))
    requests = [refused, ask("a" * 40 + "1"), ask("a" * 40 + "2")]
    assert arranged(requests, LETTERS).order[-1] == 0


@pytest.mark.parametrize("requests", [[], [ask("")], [ask("x" * 100)]])
def test_few_requests(requests):
    assert arranged(requests, LETTERS).order == tuple(range(len(requests)))
    assert predicted(requests, LETTERS).shared == 0


def test_sizes_below_one_are_refused():
    with pytest.raises(ConfigError, match="batch_size"):
        list(in_batches([ask("a")], LETTERS, 0))
    for wrong in (0, -1):
        with pytest.raises(ConfigError, match="block_size"):
            predicted([ask("a")], LETTERS, wrong)


@pytest.mark.slow
def test_many_requests_and_a_deep_trie():
    """Ten thousand requests, and prompts of thousands of blocks: no recursion, and no square of anything."""
    requests = jobs(agents=1250, asks=4, records=6)
    assert len(requests) == 10_000
    found = arranged(requests, approximate_counter())
    assert sorted(found.order) == list(range(10_000))
    assert found.blocks.distinct_blocks < found.blocks.total_blocks / 2
    deep = [ask("a" * 5000 + end) for end in "xyx"]
    assert arranged(deep, LETTERS, 1).order == (0, 2, 1)


@pytest.mark.parametrize("arrival", ["interleaved", "by agent"])
def test_on_jobs_ours_computes_less_than_arrival_in_a_tenth_of_the_cache(arrival):
    requests = jobs(agents=30, asks=4, arrival=arrival)
    numbered = paths(requests, approximate_counter())
    count = predicted(requests, approximate_counter())
    capacity = count.distinct_blocks // 10
    order = arranged(requests, approximate_counter()).order

    def misses(which):
        cache = BlockCache(capacity)
        return sum(len(numbered[n]) - cache.take(numbered[n]) for n in which)

    assert misses(order) == count.distinct_blocks <= misses(range(len(requests)))
    if arrival == "interleaved":
        assert 2 * misses(order) < misses(range(len(requests)))


def test_a_job_says_what_its_order_is_expected_to_save(memory_factory):
    memory = memory_factory()
    backend = ScriptedBackend(["yes"] * 8, counter=LETTERS)
    events = []
    requests = tuple(ask(f"{a * 64}{n}") for n in range(4) for a in "ab")
    Questioning(backend, Budget(), 3, events.append).ask([Asked(memory, "s/1", requests, Cost())])
    assert events[0] == {
        "event": "ordered", "requests": 8, "block_size": 16, "blocks": 32, "distinct_blocks": 8,
        "prompt_tokens": 8 * 65, "prefill_tokens": 8 * 65 - 24 * 16, "exact": True,
    }  # fmt: skip
    assert [e["event"] for e in events] == ["ordered", "batch", "batch", "batch"]
    asked_for = [r.messages[0].content[0] for r in backend.requests]
    assert asked_for == ["a"] * 4 + ["b"] * 4
    # What was answered is not asked again, and orders nothing.
    events.clear()
    Questioning(backend, Budget(), 3, events.append).ask([Asked(memory, "s/1", requests, Cost())])
    assert events == []


def test_blocks_are_those_of_the_backend_which_is_asked_only_when_it_is_needed(memory_factory):
    class Served(ScriptedBackend):
        asked = 0

        def tool_modes(self):
            return ("off",)

        @property
        def block_size(self):
            self.asked += 1
            return 32

    backend, events = Served(["yes"] * 2, counter=LETTERS), []
    questioning = Questioning(backend, Budget(), 8, events.append)
    questioning.ask([])
    assert (backend.asked, events) == (0, [])
    questioning.ask([Asked(memory_factory(), "s/1", (ask("a" * 64 + "1"), ask("a" * 64 + "2")), Cost())])
    assert (events[0]["block_size"], events[0]["blocks"], events[0]["distinct_blocks"]) == (32, 4, 2)


@pytest.mark.slow
def test_the_benchmark_without_vllm_says_that_it_simulates(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(batch_prefix, "find_spec", lambda name: None)
    batch_prefix.main(["--agents", "12", "--records", "8", "--json", "--out", str(tmp_path)])
    said = capsys.readouterr()
    assert "simulated cache alone" in said.err
    document = json.loads(said.out)
    (what,) = document["tables"]["jobs"]
    assert what["tokens"] == "estimated" and what["requests"] == 12 * 2 * 4
    assert what["cache, blocks"] == what["distinct"] // 10
    assert "vLLM" not in document["tables"]
    rows = {r["order"]: r["prefill tokens"] for r in document["tables"]["simulated, a cache of 0.1 of the blocks"]}
    assert rows["ours"] == min(rows.values()) == what["predicted prefill"] < rows["arrival"]
    assert json.loads((tmp_path / "batch_prefix.json").read_text()) == document
    assert (tmp_path / "batch_prefix.png").read_bytes().startswith(b"\x89PNG")
