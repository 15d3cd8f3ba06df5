"""The backend without a language model keeps the same laws."""

from __future__ import annotations

import pytest

from agentmem.backends.extractive import ExtractiveBackend
from agentmem.testing import BackendContract


class TestContract(BackendContract):
    @pytest.fixture
    def backend(self) -> ExtractiveBackend:
        return ExtractiveBackend()
