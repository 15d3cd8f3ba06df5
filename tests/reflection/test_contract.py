"""The laws of strategies on those that agentmem has, and on a toy."""

from __future__ import annotations

import pytest

from agentmem.reflection.strategies import STRATEGIES, make_strategy
from agentmem.reflection.strategy import Strategy
from agentmem.scripted import ScriptedBackend
from agentmem.testing import StrategyContract
from tests.reflection.toys import Notes, noted


class TestNotes(StrategyContract):
    @pytest.fixture
    def strategy(self) -> Strategy:
        return Notes()

    def model(self) -> ScriptedBackend:
        return ScriptedBackend([noted] * 999)

    # The toy keeps whatever a model says.
    test_nonsense_from_the_model_changes_nothing_false = None  # type: ignore[assignment]


class TestOurs(StrategyContract):
    @pytest.fixture(params=sorted(STRATEGIES))
    def strategy(self, request: pytest.FixtureRequest) -> Strategy:
        return make_strategy(request.param)
