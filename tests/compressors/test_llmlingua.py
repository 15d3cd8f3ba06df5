"""LLMLingua: the laws, the package's own text as the oracle for what it kept, long texts, and what is refused."""

from __future__ import annotations

import itertools
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

# Not imported here: it takes two seconds, and without --run-slow nothing needs it.
if find_spec("llmlingua") is None:
    pytest.skip("needs llmlingua", allow_module_level=True)
pytest.importorskip("torch")

from agentmem.compression import CompressionRequest, Part
from agentmem.compressor_contract import STORY
from agentmem.compressors.llmlingua import LLMLinguaCompressor, _groups, _pieces
from agentmem.cutting import cutting
from agentmem.errors import ConfigError
from agentmem.registry import make_compressor
from tests.compressors.laws import SENTENCES, GeneratedLaws, asked
from tests.compressors.llmlingua_contract import PackageContract
from tests.models.classifiers import bert
from tests.models.tiny import folder, random_model

if TYPE_CHECKING:
    from agentmem.compressors.llmlingua_package import CausalPackage

pytestmark = pytest.mark.slow  # models are loaded

ASCII = [s for s in SENTENCES if s.isascii()]
LONG = " ".join(f"{s} Entry {n}." for n in range(15) for s in ASCII)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(folder(tmp_path_factory.mktemp("models")) / "random")


@pytest.fixture(scope="module")
def made(path: Path) -> LLMLinguaCompressor:
    compressor = LLMLinguaCompressor(str(path))
    compressor.compress([asked(STORY)])
    return compressor


@pytest.fixture
def package(made: LLMLinguaCompressor) -> CausalPackage:
    assert made._package is not None
    return made._package


class TestLaws(GeneratedLaws):
    examples = 10

    @pytest.fixture
    def compressor(self, made: LLMLinguaCompressor) -> LLMLinguaCompressor:
        return made

    def long_words(self) -> int:
        return 1500  # a pass over each segment of 200 tokens: 50,000 words take minutes

    def requests(self) -> list[CompressionRequest]:
        return super().requests()[::5]


@pytest.mark.slow
class TestMore(TestLaws):
    examples = 80

    def requests(self) -> list[CompressionRequest]:
        return GeneratedLaws.requests(self)


@pytest.mark.parametrize("goal", [20, 90, 400])
@pytest.mark.parametrize("iterative_size", [40, 200])
def test_what_it_says_was_kept_is_what_the_package_gives(
    package: CausalPackage, goal: int, iterative_size: int
) -> None:
    contexts = [LONG[:900], STORY, LONG[900:1500]]
    package._used = [0, 1, 2]
    text = package.compress_prompt(contexts, target_token=goal, iterative_size=iterative_size)["compressed_prompt"]
    masks = package._masks(contexts)
    mine = ["".join(c for c, k in zip(t, m, strict=True) if k) for t, m in zip(contexts, masks, strict=True)]
    # The two line ends between documents are tokens too, and may be dropped.
    assert "".join(mine[n] for n in package._used).replace("\n", "") == text.replace("\n", "")
    assert any(not m.all() for m in masks)


def test_a_window_that_is_full_is_followed(package: CausalPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over its model's window the package moves tokens out of the cache; which they were is known."""
    monkeypatch.setattr(package, "max_position_embeddings", 600)
    text = LONG[:6000]
    package._used = [0]
    given = package.compress_prompt([text], target_token=600)["compressed_prompt"]
    (mask,) = package._masks([text])
    assert "".join(c for c, k in zip(text, mask, strict=True) if k) == given
    assert package._gone and 0.1 < mask.mean() < 0.95


def test_short_texts_are_compressed_too(package: CausalPackage) -> None:
    """The package alone leaves a text of less than a segment almost as it is."""
    tokens = package.get_token_length(STORY, False)
    assert tokens < 200
    (mask,) = package.kept([STORY], 0.5 * tokens, segment=200)
    kept = np.array([mask[s:e].any() for s, e in package.offsets(STORY)])
    assert 0.35 < kept.mean() < 0.65


def test_a_lower_goal_keeps_less(package: CausalPackage) -> None:
    text = LONG[:2500]
    tokens = package.get_token_length(text, False)
    shares = [package.kept([text], rate * tokens, segment=200)[0].mean() for rate in (0.2, 0.5, 0.8)]
    assert shares == sorted(shares) and shares[2] - shares[0] > 0.3


def test_the_sentence_filter_needs_no_data(package: CausalPackage) -> None:
    """The package would ask nltk, which would ask for a download."""
    for text in (STORY, LONG[:900], "one line\n\n  and another. ", "no end"):
        found = package.control_sentence_budget([text, STORY], 30.0, rank_method="llmlingua")[0]
        assert len("".join(found)) < len(text + STORY)
        for given, left in zip((text, STORY), found, strict=True):
            signs = iter(given)
            assert all(c in signs for c in left), "a sentence is torn or moved"


def test_a_text_over_the_window_is_read_in_pieces(path: Path, made: LLMLinguaCompressor) -> None:
    small = LLMLinguaCompressor(f"{path}?window=128")
    found = small.compress([asked(LONG[:1600], STORY, share=0.5)])[0]
    assert found is not None and found.parts[0] and found.num_tokens > 0
    whole = made.compress([asked(LONG[:1600], STORY, share=0.5)])[0]
    assert whole is not None and whole != found


@pytest.mark.parametrize("most", [16, 60, 4000])
@pytest.mark.parametrize("text", [LONG, "word " * 500, "漢" * 300, "\n\n" + STORY, "x" * 900, "", " ", "a"])
def test_pieces_cover_the_text_in_order(package: CausalPackage, text: str, most: int) -> None:
    found = cutting((Part(text), Part(STORY)))
    pieces = _pieces(found, package, most)
    mine = [p for p in pieces if p.part == 0]
    assert all(a.end == b.start for a, b in itertools.pairwise(mine))
    assert all(p.tokens <= most and package.get_token_length(text[p.start : p.end], False) <= most + 4 for p in mine)
    if len(text.strip()) > 1:
        assert mine[0].start == 0 and mine[-1].end >= len(text) - 2
    groups = _groups(pieces, 2 * most)
    assert [p for g in groups for p in g] == pieces
    assert all(sum(p.tokens + 2 for p in g) <= 2 * most for g in groups if len(g) > 1)


class TestPackage(PackageContract):
    kind = LLMLinguaCompressor
    options = ("?segment=100", "?window=900")
    refused = (("?spread=0.3", "known: "), ("?segment=1", "from 8"), ("?window=12.5", "a whole number"))
    wrong = "no causal language model"

    @pytest.fixture
    def compressor(self, made: LLMLinguaCompressor) -> LLMLinguaCompressor:
        return made

    @pytest.fixture
    def other(self, path: Path) -> Path:
        return bert(path.parent / "a")


def test_a_folder_that_is_not_whole(path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(path, broken)
    settings = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 3}))
    with pytest.raises(ConfigError, match="lacks"):
        LLMLinguaCompressor(str(broken)).compress([asked(STORY)])


def test_it_knows_what_it_reads(path: Path) -> None:
    made = make_compressor(f"llmlingua:{path}?rate=0.5")
    assert made is not None and not made.joint and not made.question_aware
