"""Tests on a real vLLM: left out where it is not installed. One engine is shared, as starting one takes long."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from agentmem.backends.vllm_engine import VllmBackend

HERE = Path(__file__).parent
INSTALLED = find_spec("vllm") is not None
collect_ignore_glob = [] if INSTALLED else ["test_*.py"]
# Third parties' own affairs, as they are imported.
IGNORED = (
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    "ignore::FutureWarning:vllm.*",
    "ignore::FutureWarning:torch.*",
    "ignore::UserWarning:vllm.*",
    "ignore::UserWarning:torch.*",
    "ignore:Unclosed context:ResourceWarning",  # vLLM leaves its ZeroMQ contexts to the collector
)
# A cache and batches that suit a tiny model; float32, so that greedy text does not depend on the batch.
SMALL: dict[str, Any] = {
    "dtype": "float32", "enforce_eager": True, "max_num_seqs": 64, "kv_cache_memory_bytes": 512 * 1024 * 1024
}  # fmt: skip

if INSTALLED:
    # The worker in the engine's own process: a start takes 10 s instead of 16 s. Nothing asks for this machine's name.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_HOST_IP"] = "127.0.0.1"
    os.environ["VLLM_NO_USAGE_STATS"] = os.environ["DO_NOT_TRACK"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            for line in IGNORED:
                item.add_marker(pytest.mark.filterwarnings(line))


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    if INSTALLED:  # what vLLM left and a test's traceback held until now
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for _ in range(3):
                gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT"):
        os.environ[name] = str(tmp_path_factory.mktemp(name))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the models."""
    from tests.models.tiny import folder

    return folder(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def random_path(models: Path) -> Path:
    """A model that writes nonsense."""
    from tests.models.tiny import random_model

    return random_model(models / "random8k")


@pytest.fixture(scope="session")
def scripted_path(models: Path) -> Path:
    """A model that knows a few dialogues by heart."""
    from tests.models.tiny import scripted_model

    return scripted_model(models / "scripted")


@pytest.fixture(scope="session")
def engine(random_path: Path) -> Iterator[VllmBackend]:
    """The shared engine over the random model; nobody closes it."""
    from agentmem.backends.vllm_engine import VllmBackend

    made = VllmBackend(str(random_path), **SMALL)
    yield made
    made.close()
