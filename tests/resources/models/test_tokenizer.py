"""Tokenizer folders and the shards written with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from datatrove.utils.dataset import DatatroveFolderDataset
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from transformers import AutoTokenizer

from cosmo_assets.config.training import TokenizerSettings
from cosmo_assets.core.errors import BadInputError
from resources.models.tokenizer import Tokenizer, open_tokenizer, write_token_shard

TEXTS = [
    "Photosynthesis turns light into sugar.",
    "def f(x):\n    if x:\n               return  x\n",
    "Köln, 東京, עברית, 🏳️‍🌈 and ≤ x²",
    "",
    "<s> and </s> are how this text ends: </s>",
    *(f"{'':{n}}x{'':{n}}" for n in range(40)),
]


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_tokenizer(TokenizerSettings(), folder=tmp_path_factory.mktemp("tokenizers"))


@pytest.fixture(scope="module")
def pieces() -> sentencepiece.SentencePieceProcessor:
    packaged = Path(MistralTokenizer._data_path()) / "tokenizer.model.v1"
    return sentencepiece.SentencePieceProcessor(model_file=str(packaged))


def documents(folder: Path) -> list[list[int]]:
    """Read a shard back as one list of tokens a document."""
    tokens = np.fromfile(folder / "shard.ds", "<u2")
    ends = np.fromfile(folder / "shard.ds.index", "<u8")
    return [part.tolist() for part in np.split(tokens, ends[:-1].astype(int))]


def test_it_encodes_as_sentencepiece_does(
    mistral: Path, pieces: sentencepiece.SentencePieceProcessor, tmp_path: Path
) -> None:
    counts = write_token_shard(TEXTS, tokenizer=mistral, folder=tmp_path)
    expected = [[*ids, pieces.eos_id()] for ids in pieces.encode(TEXTS)]
    assert documents(tmp_path) == expected
    assert counts == [len(ids) for ids in expected]


def test_transformers_reads_the_folder_alike(
    mistral: Path, pieces: sentencepiece.SentencePieceProcessor
) -> None:
    plain = [text for text in TEXTS if "<s>" not in text]
    theirs = AutoTokenizer.from_pretrained(mistral)
    assert theirs(plain, add_special_tokens=False)["input_ids"] == pieces.encode(plain)
    assert theirs.decode(theirs.encode(TEXTS[1])) == TEXTS[1]
    assert (theirs.eos_token_id, len(theirs)) == (2, 32_000)


def test_a_document_that_spells_the_end_token_does_not_end_there(mistral: Path) -> None:
    tokens, _ = Tokenizer(mistral).encode(["a </s> b", "</s>"])
    assert (tokens == Tokenizer(mistral).eos).sum() == 2


def test_a_shard_has_the_same_bytes_anywhere(mistral: Path, tmp_path: Path) -> None:
    once, again = tmp_path / "once", tmp_path / "deeper" / "again"
    words = Tokenizer(mistral)
    words.write(TEXTS, folder=once)
    words.write(TEXTS, folder=again)
    files = {file.name: file.read_bytes() for file in once.iterdir()}
    assert files == {file.name: file.read_bytes() for file in again.iterdir()}
    assert sorted(files) == ["shard.ds", "shard.ds.index", "shard.ds.metadata"]
    assert files["shard.ds.metadata"].splitlines()[0].decode() == f"{mistral.name}|2"


def test_datatrove_reads_the_shard(mistral: Path, tmp_path: Path) -> None:
    words = Tokenizer(mistral)
    words.write(TEXTS, folder=tmp_path)
    windows = DatatroveFolderDataset(str(tmp_path), seq_len=15, token_size=2, return_positions=True)
    tokens, counts = words.encode(TEXTS)
    assert len(windows) == len(tokens) // 16
    assert windows[1]["input_ids"].tolist() == tokens[16:32].tolist()
    starts = np.concatenate([np.arange(count) for count in counts])
    assert windows[0]["positions"].tolist() == starts[:16].tolist()


def test_a_shard_of_no_documents_is_a_shard(mistral: Path, tmp_path: Path) -> None:
    assert Tokenizer(mistral).write([], folder=tmp_path) == []
    assert (tmp_path / "shard.ds").stat().st_size == 0
    assert (tmp_path / "shard.ds.metadata").read_text().splitlines()[1] == "0"


def test_a_folder_is_made_once_and_whole(mistral: Path) -> None:
    before = mistral.stat().st_mtime_ns
    assert open_tokenizer(TokenizerSettings(), folder=mistral.parent) == mistral
    assert mistral.stat().st_mtime_ns == before
    assert [place.name for place in mistral.parent.iterdir()] == [mistral.name]


def test_a_local_folder_is_named_by_its_content(mistral: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for file in mistral.iterdir():
        (mine / file.name).write_bytes(file.read_bytes())
    settings = TokenizerSettings(name=str(mine))
    first = open_tokenizer(settings, folder=tmp_path / "made")
    assert (
        Tokenizer(first).encode(TEXTS)[0].tolist() == Tokenizer(mistral).encode(TEXTS)[0].tolist()
    )

    config = json.loads((mine / "tokenizer_config.json").read_text())
    special = json.dumps(config | {"eos_token": {"content": "<unk>"}})
    (mine / "tokenizer_config.json").write_text(special)
    second = open_tokenizer(settings, folder=tmp_path / "made")
    assert second != first
    assert (Tokenizer(first).eos, Tokenizer(second).eos) == (2, 0)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "neither tokenizer.json nor tokenizer.model"),
        ({"tokenizer.json": "{"}, "not JSON"),
        ({"tokenizer.json": "{}"}, "no 'model'"),
        ({"tokenizer.model": "junk"}, "no SentencePiece model"),
        (
            {
                "tokenizer.json": '{"version": "1.0", "model": {"type": "WordLevel", "vocab": '
                '{"a": 0}, "unk_token": "a"}, "added_tokens": []}'
            },
            "no end-of-sequence token",
        ),
    ],
)
def test_a_folder_that_will_not_do_is_refused(
    files: dict[str, str], complaint: str, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name, text in files.items():
        (mine / name).write_text(text)
    with pytest.raises(BadInputError, match=complaint):
        open_tokenizer(TokenizerSettings(name=str(mine)), folder=tmp_path / "made")
    assert list(tmp_path.glob("made/*")) == []


@pytest.mark.parametrize("name", ["./no-such-folder", "nobody/no-such-model", "not an id"])
def test_a_tokenizer_that_is_nowhere_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BadInputError, match=r"tokenizer\.name: .* give"):
        open_tokenizer(TokenizerSettings(name=name), folder=tmp_path)
