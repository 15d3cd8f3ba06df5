"""The default compressor: the laws of all, and what it chooses."""

from __future__ import annotations

import pytest

from agentmem.compressors.extractive import ExtractiveCompressor
from agentmem.testing import CompressorContract


class TestLaws(CompressorContract):
    @pytest.fixture
    def compressor(self) -> ExtractiveCompressor:
        return ExtractiveCompressor()
