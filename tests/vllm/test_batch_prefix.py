"""The order of a batch on a real prefix cache that holds a tenth of the jobs' blocks."""

from __future__ import annotations

import pytest

from agentmem.protocols import PromptTokenizer
from agentmem.reflection.batch_order import in_batches, predicted
from benchmarks.batch_jobs import jobs
from benchmarks.batch_prefix import BLOCK, serve
from benchmarks.batch_prefix import engine as engine_of

BATCH = 16


@pytest.fixture(scope="module")
def requests():
    return jobs(agents=16, asks=4, records=16)


@pytest.fixture(scope="module")
def small(random_path, requests):
    """An engine whose cache has room for a tenth of the distinct blocks."""
    from agentmem.backends.chat_template import ChatTokenizer

    count = predicted(requests, ChatTokenizer.load(str(random_path)), BLOCK)
    made = engine_of(random_path, count.distinct_blocks // 10, window=1536, most=BATCH)
    yield made
    made.close()


def test_predicted_tokens_are_computed_and_half_of_arrivals(small, requests):
    assert isinstance(small.counter, PromptTokenizer) and small.block_size == BLOCK
    count = predicted(requests, small.counter, small.block_size)
    assert small.reset_prefix_cache()
    before = small.metrics()
    arrival = serve(small, requests, range(len(requests)), BATCH)
    after = small.metrics()
    assert arrival.prompt == count.prompt_tokens
    assert after.prefix_hits - before.prefix_hits >= arrival.cached, "the engine's own counter"
    assert small.reset_prefix_cache()
    order = [n for batch in in_batches(requests, small.counter, BATCH) for n in batch]
    ours = serve(small, requests, order, BATCH)
    # Each distinct block once, although sixteen requests run at a time and the cache holds a tenth.
    assert ours.prefill == count.prefill_tokens
    assert 2 * ours.prefill <= arrival.prefill


def test_one_batch_finds_what_its_own_first_member_computes(engine):
    """No member of a group need be sent ahead: the engine shares blocks from the moment they are scheduled."""
    requests = jobs(agents=1, strategies=1, asks=8)
    assert engine.reset_prefix_cache()
    size = engine.block_size
    count = predicted(requests, engine.counter, size)
    assert count.shared >= 7 * 3
    assert serve(engine, requests, range(8), 8).prefill == count.prefill_tokens
