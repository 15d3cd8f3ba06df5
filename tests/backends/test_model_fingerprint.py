"""A model's weights are known by their safetensors files; these are written here, byte by byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.backends.model_fingerprint import model_fingerprint
from agentmem.errors import ConfigError

RNG = np.random.default_rng(0)
WEIGHTS = {
    "model.embed_tokens.weight": RNG.standard_normal((50, 64)).astype(np.float32),
    "model.layers.0.q.weight": RNG.standard_normal((8, 8)).astype(np.float32),
    "norm": RNG.standard_normal(5).astype(np.float16),
    "empty": np.zeros((0, 3), np.float32),
}
NAMES = {"float32": "F32", "float16": "F16", "int32": "I32"}


def write(path: Path, weights: dict[str, np.ndarray], **metadata: str) -> None:
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    body = b""
    for name, array in weights.items():
        data = array.tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def of(folder: Path, weights: dict[str, np.ndarray]) -> str:
    write(folder / "model.safetensors", weights)
    return model_fingerprint(folder)


def test_it_is_the_weights_however_they_are_kept(tmp_path: Path) -> None:
    one, two, three = (tmp_path / n for n in ("one", "two", "three"))
    for folder in (one, two, three):
        folder.mkdir()
    expected = of(one, WEIGHTS)
    assert len(expected) == 64 and model_fingerprint(str(one)) == expected
    write(two / "model.safetensors", dict(reversed(WEIGHTS.items())), format="pt")
    (two / "consolidated.safetensors").write_bytes(b"another set that is not read")
    (two / "config.json").write_text("{}")
    assert model_fingerprint(two) == expected
    names = sorted(WEIGHTS)
    write(three / "model-00001-of-00002.safetensors", {n: WEIGHTS[n] for n in names[:2]})
    write(three / "model-00002-of-00002.safetensors", {n: WEIGHTS[n] for n in names[2:]})
    assert model_fingerprint(three) == expected
    (three / "consolidated.safetensors").write_bytes(b"another set")
    files = {n: f"model-0000{1 + (k > 1)}-of-00002.safetensors" for k, n in enumerate(names)}
    (three / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    assert model_fingerprint(three) == expected


def test_it_is_what_the_safetensors_package_writes(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    (tmp_path / "by").mkdir()
    numpy.save_file(WEIGHTS, tmp_path / "by" / "model.safetensors")
    assert model_fingerprint(tmp_path / "by") == of(tmp_path, WEIGHTS)


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.layers.0.q.weight", "norm"])
def test_a_tensor_with_other_values_is_another_model(tmp_path: Path, name: str) -> None:
    expected = of(tmp_path, WEIGHTS)
    for change in (lambda a: a * np.float16(1.5), lambda a: a[::-1], lambda a: a.reshape(1, -1), lambda a: a[:-1]):
        assert of(tmp_path, {**WEIGHTS, name: np.ascontiguousarray(change(WEIGHTS[name]))}) != expected
    last = WEIGHTS[name].copy()
    last.flat[-1] += 1
    assert of(tmp_path, {**WEIGHTS, name: last}) != expected
    renamed = {n if n != name else "other": a for n, a in WEIGHTS.items()}
    assert of(tmp_path, renamed) != expected
    assert of(tmp_path, {n: a for n, a in WEIGHTS.items() if n != name}) != expected
    as_ints = WEIGHTS[name].tobytes()[: len(WEIGHTS[name].tobytes()) // 4 * 4]
    assert of(tmp_path, {**WEIGHTS, name: np.frombuffer(as_ints, np.int32)}) != expected


def test_a_folder_that_can_not_be_known(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(ConfigError, match="no safetensors") as caught:
            model_fingerprint(folder)
        assert caught.value.hint
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(ConfigError, match="no safetensors"):
        model_fingerprint(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    for told in ("", "[]", "{}", '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../x.safetensors"}}'):
        index.write_text(told)
        with pytest.raises(ConfigError, match="no whole safetensors"):
            model_fingerprint(tmp_path)
    index.write_text('{"weight_map": {"a": "a.safetensors"}}')
    with pytest.raises(ConfigError, match="not there"):
        model_fingerprint(tmp_path)


@given(st.data())
def test_a_broken_file_is_said_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "broken.safetensors"
    write(path, WEIGHTS)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1), label="cut")
    path.write_bytes(whole[:cut])
    with pytest.raises(ConfigError, match="no whole safetensors"):
        model_fingerprint(path.parent)
    place, value = data.draw(st.integers(0, 400), label="place"), data.draw(st.integers(0, 255), label="value")
    path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
    try:
        assert len(model_fingerprint(path.parent)) == 64
    except ConfigError as e:
        assert e.hint


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"null",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-9, 4]}}',
        b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}',
        b'{"a": {"shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, Infinity]}}',
        b"[" * 50_000,
        b"\xff\xfe",
    ],
)
def test_headers_that_no_one_writes(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    with pytest.raises(ConfigError, match="no whole safetensors"):
        model_fingerprint(tmp_path)
