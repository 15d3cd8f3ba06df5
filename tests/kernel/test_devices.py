"""Devices by name: the best there is, one that is named, and what can't be used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agentmem.devices import device_of
from agentmem.errors import ConfigError

torch = pytest.importorskip("torch")


def test_auto_is_the_best_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert device_of("auto") == torch.device(name)


def test_a_device_by_its_name() -> None:
    assert device_of("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cpu:x", "cuda:99", "cuda:-7"])
def test_what_can_not_be_used(name: str) -> None:
    with pytest.raises(ConfigError, match="can't be used") as caught:
        device_of(name)
    assert caught.value.field == "device" and caught.value.hint and caught.value.value == name


def test_torch_is_loaded_when_asked_for() -> None:
    code = "import sys, agentmem.devices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
