"""What goes into a network: texts in batches of about equal work; and loading one without noise."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.backends.model_inputs import by_length, encodable


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 200))
def test_each_once_and_within_the_budget(sizes: list[int], budget: int) -> None:
    groups = list(by_length(sizes, budget))
    assert sorted(i for g in groups for i in g) == list(range(len(sizes)))
    assert all(len(g) == 1 or len(g) * max(sizes[i] for i in g) <= budget for g in groups)
    flat = [sizes[i] for g in groups for i in g]
    assert flat == sorted(flat)
    # No group could have taken the first of the next.
    for a, b in pairwise(groups):
        assert (len(a) + 1) * sizes[b[0]] > budget


def test_examples() -> None:
    assert list(by_length([], 8)) == []
    assert list(by_length([5, 1, 9, 1], 8)) == [[1, 3], [0], [2]]
    assert encodable("a\ud83d\u0000é") == "a?\u0000é"


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("downloads_shown", [True, False])
def test_loading_leaves_the_switches_as_they_were(shown: bool, downloads_shown: bool) -> None:
    pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from huggingface_hub import utils as downloads
    from transformers.utils import logging

    from agentmem.backends.loading import quiet_loading

    def switches() -> tuple[bool, bool]:
        return logging.is_progress_bar_enabled(), not downloads.are_progress_bars_disabled()

    def turn(bars: bool, of_downloads: bool) -> None:
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
        (downloads.enable_progress_bars if of_downloads else downloads.disable_progress_bars)()

    before = switches()
    try:
        turn(shown, downloads_shown)
        seed = torch.random.get_rng_state()
        with pytest.raises(ValueError, match="broken"), quiet_loading():
            assert switches() == (False, downloads_shown)
            torch.rand(3)
            raise ValueError("broken")
        assert switches() == (shown, downloads_shown)
        assert torch.equal(seed, torch.random.get_rng_state())
    finally:
        turn(*before)
