"""Tokenizers as folders, and token shards as datatrove and nanotron read them."""

from __future__ import annotations

import importlib.resources
import itertools
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sentencepiece
import tokenizers
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from tokenizers import decoders, models, normalizers

from cosmo_assets.core.digest import digest, digest_bytes
from cosmo_assets.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cosmo_assets.config.training import TokenizerSettings

SHARD = "shard.ds"
CONVERSION = "1"  # bump when the same source would be written as another folder
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model")
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
WIDE_VOCABULARY = 2**16
PROBES = (
    "The cat sat on the mat.",
    "  two  spaces,\ttabs\n\nand lines",
    f"def f(x):\n{'':15}return x  # {'':33}",
    "naïve café, 漢字, עברית, 🏳️‍🌈 ≤ x²",
    "</s> is text here, and so is ▁",
)


class Tokenizer:
    """A tokenizer folder, loaded once for many shards.

    Tokens are ``uint16`` where the vocabulary allows it, else ``uint32``. Special tokens spelled
    out in a text are text: a document that speaks of ``</s>`` does not end there.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self.vocabulary = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.eos = self._tokenizer.token_to_id(_tree(folder / "tokenizer_config.json")["eos_token"])
        self.dtype = np.dtype("<u2" if self.vocabulary < WIDE_VOCABULARY else "<u4")

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encode documents, each followed by the end-of-sequence token.

        Returns:
            All tokens in a row, and how many belong to each document (``int64``).
        """
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        documents = [encoding.ids for encoding in encoded]
        counts = np.fromiter((len(ids) + 1 for ids in documents), np.int64, len(documents))
        ended = itertools.chain.from_iterable(
            zip(documents, itertools.repeat((self.eos,)), strict=False)
        )
        tokens = itertools.chain.from_iterable(ended)
        return np.fromiter(tokens, self.dtype, int(counts.sum())), counts

    def write(self, texts: Sequence[str], *, folder: Path) -> list[int]:
        """Write one shard: ``shard.ds``, its ``.index`` and its ``.metadata``.

        The metadata names the tokenizer by its folder's name, so that the same texts give the
        same bytes anywhere.

        Returns:
            Tokens of each document, the end-of-sequence token included.
        """
        tokens, counts = self.encode(texts)
        file = TokenizedFile(
            str(folder),
            SHARD,
            tokenizer_name_or_path=self.name,
            save_final_metadata=True,
            token_size=self.dtype.itemsize,
        )
        file.write_bytes(tokens.tobytes(), doc_ends=np.cumsum(counts).tolist())
        file.close()
        return counts.tolist()


def write_token_shard(texts: Sequence[str], *, tokenizer: Path, folder: Path) -> list[int]:
    """Write one shard with the tokenizer in ``tokenizer``. For many, keep a ``Tokenizer``."""
    return Tokenizer(tokenizer).write(texts, folder=folder)


def open_tokenizer(settings: TokenizerSettings, *, folder: Path) -> Path:
    """Find or make the tokenizer folder that ``settings`` ask for.

    Returns:
        ``folder/<digest of the source files>``, which ``AutoTokenizer.from_pretrained`` and
        ``Tokenizer`` read alike. It appears whole, or not at all.

    Raises:
        BadInputError: there is no such tokenizer, or it cannot be used for shards.
    """
    source = _source_files(settings)
    name = digest([CONVERSION, {file: digest_bytes(path.read_bytes()) for file, path in source}])
    target = folder / name
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=folder) as scratch:
        draft = Path(scratch, name)
        draft.mkdir()
        _write_folder(dict(source), draft, settings.name)
        draft.chmod(0o755)
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise somebody else made the same folder first
                raise
    return target


def _source_files(settings: TokenizerSettings) -> list[tuple[str, Path]]:
    """List the files a tokenizer is made of, as ``(name, path)``, by name."""
    if settings.name == "mistral-v1":
        packaged = importlib.resources.files("mistral_common") / "data" / "tokenizer.model.v1"
        return [("tokenizer.model", Path(str(packaged)))]
    place = Path(settings.name).expanduser()
    if not place.is_dir():
        if settings.name.startswith(("/", "./", "../", "~")):
            msg = f"tokenizer.name: {settings.name!r} is not a folder; give one with tokenizer.json"
            raise BadInputError(msg)
        place = _fetch(settings)
    pairs = [(file, place / file) for file in sorted(FILES) if (place / file).is_file()]
    if not {"tokenizer.json", "tokenizer.model"} & dict(pairs).keys():
        msg = (
            f"tokenizer.name: {settings.name!r} holds neither tokenizer.json nor tokenizer.model; "
            "save a fast tokenizer there"
        )
        raise BadInputError(msg)
    return pairs


def _fetch(settings: TokenizerSettings) -> Path:
    try:
        return Path(
            snapshot_download(
                settings.name,
                revision=settings.revision or None,
                allow_patterns=list(FILES),
            )
        )
    except (OSError, HFValidationError) as error:  # absent, private, offline, or no id at all
        msg = (
            f"tokenizer.name: {settings.name!r} is no folder and cannot be had from the hub; give "
            f"'mistral-v1', a folder, or a model id that this machine can reach: {error}"
        )
        raise BadInputError(msg) from error


def _write_folder(source: Mapping[str, Path], draft: Path, name: str) -> None:
    """Write tokenizer.json and the two small files that name its special tokens."""
    if "tokenizer.json" in source:
        if "model" not in _tree(source["tokenizer.json"]):
            msg = f"{source['tokenizer.json']}: holds no 'model'; save a fast tokenizer there"
            raise BadInputError(msg)
        shutil.copyfile(source["tokenizer.json"], draft / "tokenizer.json")
        special = _special_tokens(source)
    else:
        special = _convert(source["tokenizer.model"], draft / "tokenizer.json", name)
    known = tokenizers.Tokenizer.from_file(str(draft / "tokenizer.json"))
    if "eos_token" not in special or known.token_to_id(special["eos_token"]) is None:
        msg = (
            f"tokenizer.name: {name!r} has no end-of-sequence token, which parts documents; "
            "name one as eos_token in its tokenizer_config.json"
        )
        raise BadInputError(msg)
    # The plain class takes tokenizer.json as it is; model classes rebuild it, and not alike.
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **special,
    }
    for file, tree in (("tokenizer_config.json", config), ("special_tokens_map.json", special)):
        (draft / file).write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n")


def _special_tokens(source: Mapping[str, Path]) -> dict[str, str]:
    """Read the special tokens, written as strings or as ``{"content": …}``."""
    special: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        tree = _tree(source[file]) if file in source else {}
        for key in SPECIAL:
            token = tree.get(key)
            if token is not None:
                special[key] = token["content"] if isinstance(token, dict) else token
    return special


def _convert(model: Path, target: Path, name: str) -> dict[str, str]:
    """Write a SentencePiece BPE model as tokenizer.json, and return its special tokens.

    Merges go by the score of the piece they make, as SentencePiece's own agenda does; by token
    id, as transformers converts, runs of spaces would merge first and code would tokenize
    otherwise. Pieces of equal score (the runs of spaces) go longest first, which grows a run from
    its left.
    """
    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    except (OSError, RuntimeError) as error:
        msg = f"{model}: no SentencePiece model; replace it or save a tokenizer.json: {error}"
        raise BadInputError(msg) from error
    size = pieces.vocab_size()
    texts = [pieces.id_to_piece(i) for i in range(size)]
    ids = {text: i for i, text in enumerate(texts)}
    special = {
        "unk_token": texts[pieces.unk_id()],
        "bos_token": texts[pieces.bos_id()],
        "eos_token": texts[pieces.eos_id()],
    }
    order = sorted(range(size), key=lambda i: (-pieces.get_score(i), -len(texts[i]), i))
    splits = ((texts[i][:cut], texts[i][cut:]) for i in order for cut in range(1, len(texts[i])))
    merges = [(left, right) for left, right in splits if left in ids and right in ids]
    bpe = models.BPE(ids, merges, unk_token=special["unk_token"], fuse_unk=True, byte_fallback=True)
    made = tokenizers.Tokenizer(bpe)
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.add_special_tokens(list(special.values()))
    made.save(str(target))
    _compare(made, pieces, name)
    return special


def _compare(made: Any, pieces: Any, name: str) -> None:
    made.encode_special_tokens = True
    ours = [encoding.ids for encoding in made.encode_batch(list(PROBES))]
    for probe, got, wanted in zip(PROBES, ours, pieces.encode(list(PROBES)), strict=True):
        if got != wanted:
            msg = (
                f"tokenizer.name: {name!r} does not convert: {probe!r} becomes {got}, not "
                f"{wanted}; save it as tokenizer.json and give that folder"
            )
            raise BadInputError(msg)


def _tree(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path}: not JSON; save the tokenizer again: {error}"
        raise BadInputError(msg) from error
    if not isinstance(tree, dict):
        msg = f"{path}: expected a JSON object; save the tokenizer again"
        raise BadInputError(msg)
    return tree
