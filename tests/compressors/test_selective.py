"""Selective Context: the laws in each unit, self-information against a plain computation, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

from agentmem.compression import Part, shown  # noqa: E402
from agentmem.compressor_contract import ODD, STORY  # noqa: E402
from agentmem.compressors.selective import SelectiveCompressor, phrase_starts, unit_values  # noqa: E402
from agentmem.compressors.self_information import SelfInformation  # noqa: E402
from agentmem.cutting import cutting  # noqa: E402
from agentmem.errors import ConfigError, MissingExtraError  # noqa: E402
from agentmem.registry import make_compressor  # noqa: E402
from tests.compressors.laws import SENTENCES, GeneratedLaws, asked  # noqa: E402
from tests.compressors.model_passes import model_passes  # noqa: E402
from tests.models.tiny import folder, random_model  # noqa: E402

pytestmark = pytest.mark.slow  # models are loaded

PLAIN = (
    "We walked along the river for a long time and talked about the old days. "
    "Then we sat down somewhere near the bridge and had some bread with cheese."
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(folder(tmp_path_factory.mktemp("models")) / "random")


@pytest.fixture(scope="module")
def made(path: Path) -> dict[str, SelectiveCompressor]:
    """One a unit: the model is loaded once."""
    return {unit: SelectiveCompressor(f"{path}?unit={unit}") for unit in ("token", "phrase", "sentence")}


class _Laws(GeneratedLaws):
    unit = ""
    examples = 20

    @pytest.fixture
    def compressor(self, made: dict[str, SelectiveCompressor]) -> SelectiveCompressor:
        return made[self.unit]

    def long_words(self) -> int:
        return 2000


class TestTokens(_Laws):
    unit = "token"


class TestPhrases(_Laws):
    unit = "phrase"


class TestSentences(_Laws):
    unit = "sentence"


# -- self-information -------------------------------------------------------------------------------------------------


def by_hand(path: Path, texts: Sequence[str]) -> Iterator[list[float]]:
    """The paper's formula, text by text: no batch, no window, no padding."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    network = AutoModelForCausalLM.from_pretrained(path, dtype="float32").eval()
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = network(torch.tensor([[begin, *ids]])).logits[0].double()
        log_probs = logits - torch.logsumexp(logits, -1, keepdim=True)
        yield [-float(log_probs[n, token]) for n, token in enumerate(ids)]


def test_self_information_is_the_formula(path: Path) -> None:
    texts = [*SENTENCES, *ODD, "a", PLAIN * 5]
    model = SelfInformation(str(path), name="selective")
    found = model.surprisals([((), t.ids) for t in model.tokens(texts)])
    for values, right in zip(found, by_hand(path, texts), strict=True):
        np.testing.assert_allclose(values, right, atol=1e-4)


def test_a_context_is_what_stands_before(path: Path) -> None:
    model = SelfInformation(str(path), name="selective")
    before, text = model.tokens(["The key is under", " the pot by the door"])
    whole = model.surprisals([((), before.ids + text.ids)])[0]
    alone, after = model.surprisals([((), text.ids), (before.ids, text.ids)])
    np.testing.assert_allclose(after, whole[len(before.ids) :], atol=1e-4)
    assert not np.allclose(alone, after, atol=1e-2), "the context is not read"


def test_a_text_beyond_the_window_is_read_by_windows(tmp_path: Path) -> None:
    small = random_model(tmp_path / "small", window=33)
    model = SelfInformation(str(small), name="selective")
    text = model.tokens([PLAIN * 4])[0]
    values = model.surprisals([((), text.ids)])[0]
    assert len(values) == len(text.ids) > 100 and (values > 0).all()
    np.testing.assert_allclose(values[:32], model.surprisals([((), text.ids[:32])])[0], atol=1e-4)
    # The second window: half of it is context.
    second = model.surprisals([(text.ids[16:32], text.ids[32:48])])[0]
    np.testing.assert_allclose(values[32:48], second, atol=1e-4)


def test_units_are_means_over_their_tokens(path: Path) -> None:
    found = cutting((Part(PLAIN),))
    nats = np.arange(len(found.chunks), dtype=float) ** 2
    tokens = np.arange(len(found.chunks), dtype=float) % 3 + 1
    by_sentence = unit_values(found, nats, tokens, "sentence")
    for unit in found.units:
        here = slice(unit.first, unit.last)
        assert by_sentence[here] == pytest.approx(
            [nats[here].sum() / tokens[here].sum()] * (unit.last - unit.first), abs=1e-3
        )
    by_word = unit_values(found, nats, tokens, "token")
    words = [found.parts[0].text[s:e] for s, e in found.chunks]
    assert words[-2:] == ["cheese", "."] and by_word[-1] == by_word[-2]
    assert by_word[-2] == pytest.approx(nats[-2:].sum() / tokens[-2:].sum(), abs=1e-3)
    assert by_word[:3] == pytest.approx(nats[:3] / tokens[:3], abs=1e-3)


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("She walked to the old house, and her dog was in the garden.",
         ["She walked", "to the old house,", "and her dog", "was in the garden."]),
        ("我昨天去里斯本看了新房子。", ["我昨天去里斯本看了新房子。"]),
        ("eins zwei drei vier fünf sechs", ["eins zwei drei vier fünf", "sechs"]),
    ],
)  # fmt: skip
def test_a_phrase_is_content_words_with_their_function_words(text: str, phrases: list[str]) -> None:
    found = cutting((Part(text),))
    starts = [n for u in found.units for n in phrase_starts(found, u)]
    ends = [*starts[1:], len(found.chunks)]
    assert [text[found.chunks[a][0] : found.chunks[b - 1][1]] for a, b in zip(starts, ends, strict=True)] == phrases


def test_what_the_model_foresees_goes_first(made: dict[str, SelectiveCompressor]) -> None:
    """In a plain text, where nothing is protected, what is kept tells more a token than what is left out."""
    compressor = made["token"]
    found = compressor.compress([asked(PLAIN)])[0]
    assert found is not None
    told = compressor._told([cutting((Part(PLAIN),))])[0]
    values = unit_values(told.found, told.nats, told.tokens, "token")
    spans = found.parts[0]
    kept = [any(a <= s and e <= b for a, b in spans) for s, e in told.found.chunks]
    free = [n for n in range(len(kept)) if not told.found.protected[n]]
    assert min(values[n] for n in free if kept[n]) > max(values[n] for n in free if not kept[n])
    assert found.num_tokens > 0.8 * asked(PLAIN).target_tokens, "it is cut more than was asked"


@pytest.mark.parametrize("unit", ["token", "phrase", "sentence"])
def test_texts_are_read_once_for_all_targets(made: dict[str, SelectiveCompressor], unit: str) -> None:
    compressor = made[unit]
    requests = [asked(t, share=share) for share in (0.65, 0.4, 0.2) for t in (STORY, PLAIN, *ODD)]
    alone = [compressor.compress([r])[0] for r in requests]
    assert compressor.compress(requests) == alone and len({r and r.parts for r in alone}) > 8
    once = model_passes(lambda: compressor.compress(requests[: len(requests) // 3]))
    assert 0 < once == model_passes(lambda: compressor.compress(requests))


def test_units_differ(made: dict[str, SelectiveCompressor]) -> None:
    texts = {}
    for unit, compressor in made.items():
        found = compressor.compress([asked(STORY, share=0.6)])[0]
        assert found is not None
        texts[unit] = shown(STORY, found.parts[0])
    assert len(set(texts.values())) == 3
    for sentence in cutting((Part(STORY),)).units:
        text = STORY[sentence.start : sentence.end]
        assert text in texts["sentence"] or text.split()[0] + " " not in texts["sentence"]


def test_it_keeps_what_it_is_told(path: Path) -> None:
    text = "There was a bird on the roof of the house and it was singing for the whole of the long morning there."
    given = SelectiveCompressor(str(path), unit="token", keep=["roof", "singing"])
    for share in (0.4, 0.6, 0.8):
        found = given.compress([asked(text, share=share)])[0]
        if found is not None:
            assert {"roof", "singing"} <= set(shown(text, found.parts[0]).split())
    assert SelectiveCompressor(f"{path}?keep=roof,singing&unit=token").fingerprint == given.fingerprint


# -- bad input --------------------------------------------------------------------------------------------------------


def test_the_fingerprint_tells_models_and_settings(path: Path, tmp_path: Path) -> None:
    other = random_model(tmp_path / "other", seed=1)
    made = [SelectiveCompressor(f"{p}?unit={u}") for p in (path, other) for u in ("token", "phrase")]
    assert len({c.fingerprint for c in made}) == 4
    copy = shutil.copytree(path, tmp_path / "copy")
    assert SelectiveCompressor(f"{copy}?unit=token").fingerprint == made[0].fingerprint


def test_constructing_loads_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    compressor = make_compressor(f"selective:{path}?unit=sentence")
    assert isinstance(compressor, SelectiveCompressor) and not compressor.question_aware
    assert compressor.compress([asked(STORY, share=1.0)]) == [None]
    with pytest.raises(MissingExtraError, match=r"agentmem\[hf\]"):
        compressor.compress([asked(STORY)])


@pytest.mark.parametrize(
    ("options", "field", "said"),
    [
        ("?unit=word", "unit", "token, phrase, sentence"),
        ("?units=token", "compressor", "known: device, dtype, keep, unit"),
        ("?dtype=int4", "dtype", "bfloat16"),
        ("?device=7", "device", "cpu"),
        ("?keep=7", "keep", "keep="),
        ("?unit=", "compressor", "unit"),
    ],
)
def test_options_that_are_none(path: Path, options: str, field: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        SelectiveCompressor(f"{path}{options}")
    assert caught.value.field == field and caught.value.hint


def test_an_option_twice(path: Path) -> None:
    with pytest.raises(ConfigError, match="unit"):
        SelectiveCompressor(f"{path}?unit=token", unit="phrase")


def test_paths_that_are_no_model(tmp_path: Path) -> None:
    for bad in ("", str(tmp_path / "nothing"), "./nothing/here"):
        with pytest.raises(ConfigError) as caught:
            SelectiveCompressor(bad)
        assert caught.value.field == "model" and caught.value.hint
    compressor = SelectiveCompressor("some/where-that-is-not")
    with pytest.raises(ConfigError, match="hf download"):
        compressor.compress([asked(STORY)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="can't be loaded"):
        SelectiveCompressor(str(tmp_path / "empty")).compress([asked(STORY)])


def changed(path: Path, to: Path, file: str, **values: object) -> SelectiveCompressor:
    copy = shutil.copytree(path, to)
    found = json.loads((copy / file).read_text(encoding="utf-8"))
    kept = {k: v for k, v in {**found, **values}.items() if v is not None}
    (copy / file).write_text(json.dumps(kept), encoding="utf-8")
    return SelectiveCompressor(str(copy))


def test_models_that_can_not_score(path: Path, tmp_path: Path) -> None:
    wrong = changed(path, tmp_path / "a", "config.json", architectures=["BertForTokenClassification"])
    with pytest.raises(ConfigError, match="no causal language model"):
        wrong.compress([asked(STORY)])
    bare = changed(path, tmp_path / "b", "tokenizer_config.json", eos_token=None, pad_token=None, bos_token=None)
    with pytest.raises(ConfigError, match="no token that begins") as caught:
        bare.compress([asked(STORY)])
    assert "tokenizer_config.json" in caught.value.hint
    more = changed(path, tmp_path / "c", "config.json", num_hidden_layers=3)
    with pytest.raises(ConfigError, match="lacks"):
        more.compress([asked(STORY)])


@pytest.mark.slow
def test_a_line_of_fifty_thousand_tokens(made: dict[str, SelectiveCompressor]) -> None:
    text = " ".join(PLAIN.split()[n % 28].strip(".") for n in range(50_000))
    for compressor in made.values():
        wanted = asked(text)
        found = compressor.compress([wanted])[0]
        assert found is None or found.num_tokens <= wanted.target_tokens
