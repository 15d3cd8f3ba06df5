"""Short names of drivers: each known one loads, and what is no driver is said to be none."""

from __future__ import annotations

import pytest

from agentmem import registry
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.errors import ConfigError, UnknownNameError


@pytest.mark.parametrize("path", [*registry.BACKENDS.values(), *registry.EMBEDDERS.values(), registry.STORE])
def test_every_registered_driver_is_there(path: str) -> None:
    assert registry.load(path).__name__ == path.partition(":")[2]


def test_specs() -> None:
    assert registry.make_embedder("none") is None
    assert isinstance(registry.make_embedder("hash"), HashingEmbedder)
    assert isinstance(registry.make_embedder("agentmem.backends.hashing_embedder:HashingEmbedder"), HashingEmbedder)
    assert registry.make_backend("extractive", None).describe()


@pytest.mark.parametrize("spec", ["", "x", ":", "x:y", "Hash", "hash ", "\n"])
def test_unknown_names_list_the_known(spec: str) -> None:
    for make in (registry.make_embedder, lambda s: registry.make_backend(s, None)):
        with pytest.raises(UnknownNameError) as e:
            make(spec)
        assert e.value.name == spec and e.value.known == tuple(sorted(e.value.known)) != ()


@pytest.mark.parametrize(
    "spec",
    ["st", "openai", "openai:", "hash:3", "minilm:x", "no.such.module:X", "os.path:Nothing", "..:x", ".a:x", "a.:x"],
)
def test_what_can_not_be_made_is_a_config_error(spec: str) -> None:
    with pytest.raises(ConfigError) as e:
        registry.make_embedder(spec)
    assert e.value.value == spec


def test_a_backend_that_takes_no_argument() -> None:
    with pytest.raises(ConfigError):
        registry.make_backend("extractive:big", None)


def test_auto_is_none_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MINILM_NEEDS", ("no_such_package_anywhere",))
    assert registry.make_embedder("auto") is None
