"""Byte for byte what the package gives on the last transformers that it runs on unaided (transformers 4.47.1)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# Not imported here: it takes two seconds, and without --run-slow nothing needs it.
if find_spec("llmlingua") is None:
    pytest.skip("needs llmlingua", allow_module_level=True)
pytest.importorskip("torch")

from tests.models.classifiers import bert, xlmr
from tests.models.tiny import folder, random_model

ROOT = Path(__file__).resolve().parents[2]
# Read here: the tests run without the variables of agentmem.
REFERENCE = Path(os.environ.get("AGENTMEM_REFERENCE_PYTHON") or ROOT / ".venv-llmlingua" / "bin" / "python")


def said(python: str, *command: str) -> dict[str, str]:
    """What a run of the script prints, without network and with one thread."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run([python, *command], cwd=ROOT, env=environment, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.exists(), reason="no reference environment: run bash .ci/llmlingua")
def test_the_adapter_gives_what_the_package_gives(tmp_path_factory: pytest.TempPathFactory) -> None:
    models = folder(tmp_path_factory.mktemp("models")) / "reference"
    random_model(models / "causal")
    bert(models / "bert-base-multilingual-cased")
    xlmr(models / "xlm-roberta-large")
    here = said(sys.executable, "-m", "tests.compressors.reference_llmlingua", "adapted", str(models))
    there = said(str(REFERENCE), "tests/compressors/reference_llmlingua.py", "plain", str(models))
    assert len(here) > 80 and len(set(here.values())) > 60
    assert [k for k in there if here.get(k) != there[k]] == [] and here.keys() == there.keys()
