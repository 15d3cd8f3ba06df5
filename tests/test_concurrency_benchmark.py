"""The concurrency benchmark against a fake server: its arms send the same requests, and it says what they reached."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import concurrency
from tests.backends.fake_openai import CHAT, MODELS, FakeOpenAI, models


def test_the_arms_send_the_same_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeOpenAI() as server:
        server.defaults[MODELS] = models("tiny", max_model_len=32768)
        concurrency.main(
            ["--url", f"{server.url}#tiny", "--agents", "3", "--concurrent", "2", "--turns", "2", "--rounds", "2",
             "--max-tokens", "40", "--folder", str(tmp_path), "--json"]
        )  # fmt: skip
        bodies = [r.body for r in server.asked(CHAT) if "Agent " in json.dumps(r.body)]
    document = json.loads(capsys.readouterr().out)
    assert [r["arm"] for r in document["rows"]] == ["direct", "pool", "pool, interruptible"]
    assert {(r["requests"], r["tokens"]) for r in document["rows"]} == {(6, document["rows"][0]["tokens"])}
    assert document["rows"][0]["over direct"] == 1.0 and document["rows"][1]["over direct"] > 0
    arms: dict[str, Counter[str]] = {}
    for body in bodies:
        salt = body.pop("cache_salt")
        streamed = body.pop("stream", False)
        body.pop("stream_options", None)
        assert bool(streamed) == salt.endswith("-l")
        arms.setdefault(salt, Counter())[json.dumps(body, sort_keys=True)] += 1
    assert len(arms) == 9, "three arms, two rounds and one that is not measured"
    rounds: dict[str, list[Counter[str]]] = {}
    for salt, sent in arms.items():
        rounds.setdefault(salt[:-2], []).append(sent)
    # The clock in a prompt may move on between two arms; what is sent again is what was sent.
    for round_, sent in rounds.items():
        assert arms[f"{round_}-p"] == arms[f"{round_}-d"] and len(sent) == 3
        assert all(c.total() == 7 for c in sent)
