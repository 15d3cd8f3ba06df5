"""LLMLingua-2: the laws on both families, the package's own choice as the oracle, and what is refused."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

# Not imported here: it takes two seconds, and without --run-slow nothing needs it.
if find_spec("llmlingua") is None:
    pytest.skip("needs llmlingua", allow_module_level=True)
torch = pytest.importorskip("torch")

from agentmem.compression import CompressionRequest, Part, shown  # noqa: E402
from agentmem.compressor_contract import ODD, STORY  # noqa: E402
from agentmem.compressors.llmlingua2 import LLMLingua2Compressor  # noqa: E402
from agentmem.cutting import cutting  # noqa: E402
from agentmem.errors import ConfigError  # noqa: E402
from agentmem.tokens import approximate_counter  # noqa: E402
from tests.compressors.laws import SENTENCES, GeneratedLaws, asked  # noqa: E402
from tests.compressors.llmlingua_contract import PackageContract  # noqa: E402
from tests.models.classifiers import bert, xlmr  # noqa: E402
from tests.models.tiny import folder, random_model  # noqa: E402

pytestmark = pytest.mark.slow  # models are loaded

FAMILIES = {"bert": bert, "xlmr": xlmr}
LONG = " ".join(f"{s} Entry {n}." for n in range(12) for s in SENTENCES[:9])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def made(models: Path) -> dict[str, LLMLingua2Compressor]:
    """By family and threshold; no folder has a name that the package knows."""
    return {
        f"{family} {threshold}": LLMLingua2Compressor(f"{make(models / family)}?threshold={threshold}")
        for family, make in FAMILIES.items()
        for threshold in ("chunk", "global")
    }


class _Laws(GeneratedLaws):
    kind = ""
    examples = 15

    @pytest.fixture
    def compressor(self, made: dict[str, LLMLingua2Compressor]) -> LLMLingua2Compressor:
        return made[self.kind]

    def long_words(self) -> int:
        return 2000  # all 50,000 in a slow test, once

    def requests(self) -> list[CompressionRequest]:
        return super().requests()[::5]


class TestBert(_Laws):
    kind = "bert chunk"


class TestXlmr(_Laws):
    kind = "xlmr global"


@pytest.mark.slow
class TestALongLine(GeneratedLaws):
    examples = 100

    @pytest.fixture
    def compressor(self, made: dict[str, LLMLingua2Compressor]) -> LLMLingua2Compressor:
        return made["bert chunk"]


@pytest.mark.parametrize("family", ["bert", "xlmr"])
@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
def test_the_package_keeps_the_words_of_the_highest_values(
    made: dict[str, LLMLingua2Compressor], family: str, rate: float
) -> None:
    """Its own labels, at its own rate, in each of its stretches: nothing that it drops is above what it keeps."""
    compressor = made[f"{family} chunk"]
    compressor.compress([asked(STORY)])
    package = compressor._package
    assert package is not None
    stretches = package.words([LONG])[0]
    assert len(stretches) > 1
    labelled = package.compress_prompt(
        [LONG], rate=rate, force_reserve_digit=True, return_word_label=True, word_sep="\n", label_sep="\t"
    )["fn_labeled_original_prompt"].split("\n")
    at = 0
    for words, likely in stretches:
        mine = [line.split("\t") for line in labelled[at : at + len(words)]]
        at += len(words)
        assert [w for w, _ in mine] == words
        values = compressor._values(words, likely, approximate_counter())
        kept = [v for v, (_, label) in zip(values, mine, strict=True) if label == "1"]
        gone = [v for v, (_, label) in zip(values, mine, strict=True) if label == "0"]
        assert kept and gone and min(kept) > max(gone)
        assert 0 <= min(values) <= max(values) < 1
    assert at == len(labelled)


def test_short_rows_change_nothing(made: dict[str, LLMLingua2Compressor]) -> None:
    """The network is run over the texts' own lengths, not over 512 tokens; its likelihoods are the same."""
    compressor = made["bert chunk"]
    compressor.compress([asked(STORY)])
    package = compressor._package
    assert package is not None
    network = package.model.__closure__[0].cell_contents
    short = package.words([STORY, *ODD])
    package.model, shorter = network, package.model
    try:
        whole = package.words([STORY, *ODD])
    finally:
        package.model = shorter
    for one, other in zip(short, whole, strict=True):
        assert [w for w, _ in one] == [w for w, _ in other]
        assert np.allclose(np.concatenate([p for _, p in one]), np.concatenate([p for _, p in other]), atol=1e-5)


def test_a_global_threshold_weighs_stretches_against_each_other(made: dict[str, LLMLingua2Compressor]) -> None:
    found = [made[f"xlmr {t}"].compress([asked(LONG, share=0.6)])[0] for t in ("chunk", "global")]
    assert found[0] is not None and found[1] is not None and found[0].parts != found[1].parts


def test_words_that_the_vocabulary_lacks_are_as_good_as_their_text(made: dict[str, LLMLingua2Compressor]) -> None:
    compressor = made["bert chunk"]
    text = "We saw 😀😀😀 there, and then we went home again for the evening."
    found = cutting((Part(text),))
    scores, _ = compressor._judged(asked(text), found, {})
    smiles = next(n for n, (s, _) in enumerate(found.chunks) if text[s] == "😀")
    others = np.delete(scores, smiles)
    assert others.min() < scores[smiles] < others.max()


def test_no_global_seed_is_moved(models: Path) -> None:
    import random

    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    LLMLingua2Compressor(str(bert(models / "bert"))).compress([asked(STORY)])
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    assert "PYTHONHASHSEED" not in __import__("os").environ


def test_the_package_itself_is_left_as_it_is(made: dict[str, LLMLingua2Compressor]) -> None:
    import llmlingua.prompt_compressor as module
    import nltk
    import tiktoken

    made["bert chunk"].compress([asked(STORY)])
    assert module.tiktoken is tiktoken and module.nltk is nltk
    assert module.PromptCompressor.control_sentence_budget.__globals__ is vars(module)


def test_kept_words_stay(models: Path) -> None:
    path = str(bert(models / "bert"))
    found = LLMLingua2Compressor(f"{path}?keep=lovely,flat").compress([asked(STORY, share=0.6)])[0]
    assert found is not None
    text = shown(STORY, found.parts[0])
    assert "Rua Augusta" not in text or "flat" in text
    assert "day" not in text or "lovely" in text


def test_below_the_rate_whole_sentences_go(models: Path) -> None:
    path = str(bert(models / "bert"))
    counts = []
    for rate in (0.0, 0.9):
        found = LLMLingua2Compressor(path, rate=rate).compress([asked(STORY, share=0.4)])[0]
        assert found is not None
        text = cutting((Part(STORY),))
        counts.append(sum(any(s < u.end and u.start < e for s, e in found.parts[0]) for u in text.units))
    assert counts[1] < counts[0]


class _Package(PackageContract):
    kind = LLMLingua2Compressor
    options = ("?threshold=global",)
    refused = (("?threshold=word", "chunk, global"), ("?segment=100", "known: "))
    wrong = "no token classifier"
    family = ""

    @pytest.fixture
    def path(self, models: Path) -> Path:
        return FAMILIES[self.family](models / self.family)

    @pytest.fixture
    def compressor(self, made: dict[str, LLMLingua2Compressor]) -> LLMLingua2Compressor:
        return made[f"{self.family} chunk"]

    @pytest.fixture
    def other(self, models: Path) -> Path:
        return random_model(models / "random")


class TestBertPackage(_Package):
    family = "bert"


class TestXlmrPackage(_Package):
    family = "xlmr"


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", {"model_type": "roberta"}, "family 'roberta'"),
        ("config.json", {"id2label": {"0": "a", "1": "b", "2": "c"}}, "3 labels"),
        ("config.json", {"num_hidden_layers": 3}, "lacks"),
        ("tokenizer.json", None, "can't be loaded"),
        ("model.safetensors", None, "can't be loaded"),
    ],
)
def test_a_folder_that_is_not_whole(
    models: Path, tmp_path: Path, file: str, change: dict[str, object] | None, said: str
) -> None:
    path = tmp_path / "m"
    shutil.copytree(bert(models / "bert"), path)
    if change is None:
        (path / file).unlink()
    else:
        (path / file).write_text(json.dumps({**json.loads((path / file).read_text()), **change}))
    with pytest.raises(ConfigError, match=said) as caught:
        LLMLingua2Compressor(str(path)).compress([asked(STORY)])
    assert caught.value.hint and caught.value.field == "model"
