"""A generator in this process: a transformers model, answering in batches."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from cosmo_assets.core.errors import GeneratorError
from resources.generation.generator import Generator
from resources.generation.types import Completion, prompt_seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosmo_assets.config import generator as config
    from resources.generation.types import Ask, OnReply

AHEAD = 64  # batches that are sorted by length together


class LocalGenerator(Generator):
    """Answers with a model loaded here.

    Each prompt has its own stream of chance, keyed by the prompt and ``sampling.seed``, so it is
    sampled the same way in any batch. What a batch still changes is rounding: its kernels may
    differ in the last bits of a logit, which matters where two tokens all but tie.
    """

    def __init__(self, settings: config.Generator) -> None:
        super().__init__(settings)
        self._interrupted = False
        self._batch_size = settings.how.batch_size
        self._device = torch.device(_device(settings.how.device))
        self._tokenizer, self._network = _load(settings, self._device)
        self._ends = _end_tokens(self._tokenizer, self._network)
        self._context = getattr(self._network.config, "max_position_embeddings", None)

    def answer(self, asks: Iterator[Ask], *, on_reply: OnReply) -> None:
        """Answer every prompt, and tell of them a batch at a time.

        Raises:
            GeneratorError: a batch does not fit into the device's memory.
            KeyboardInterrupt: after the batch at work.
        """
        rows = enumerate(self.tally.watch(asks))
        while ahead := list(itertools.islice(rows, AHEAD * self._batch_size)):
            for batch in self._batches(ahead, on_reply):
                if self._interrupted:
                    self._interrupted = False  # honoured
                    raise KeyboardInterrupt
                self.tally.require_budget()
                seeds = [prompt_seed(ask.prompt, seed=ask.sampling.seed) for _, ask, _ in batch]
                sampling = batch[0][1].sampling
                written = self._write([tokens for *_, tokens in batch], seeds, sampling)
                for (row, _, _), reply in zip(batch, written, strict=True):
                    self.tally.count(reply)
                    on_reply(row, reply)

    def interrupt(self, times: int) -> None:
        """End after the batch at work."""
        del times
        self._interrupted = True

    def _batches(
        self, ahead: list[tuple[int, Ask]], on_reply: OnReply
    ) -> Iterator[list[tuple[int, Ask, list[int]]]]:
        """Put prompts sampled alike and of like length together: less padding."""
        groups: dict[config.Sampling, list[tuple[int, Ask, list[int]]]] = {}
        for row, ask in ahead:
            tokens = self._encode(ask.prompt)
            if reason := self._misfit(len(tokens), ask.sampling.max_new_tokens):
                reply = Completion.failure(reason)
                self.tally.count(reply)
                on_reply(row, reply)
            else:
                groups.setdefault(ask.sampling, []).append((row, ask, tokens))
        for group in groups.values():
            group.sort(key=lambda pair: len(pair[2]))
            for start in range(0, len(group), self._batch_size):
                yield group[start : start + self._batch_size]

    def _encode(self, prompt: str) -> list[int]:
        """Return a prompt's tokens, inside the model's chat template if it has one."""
        if self._tokenizer.chat_template is None:
            return self._tokenizer(prompt)["input_ids"]
        text = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        # The template writes the special tokens; the tokenizer would add a second beginning.
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def _misfit(self, tokens: int, longest: int) -> str | None:
        """Say why a prompt of so many tokens cannot be answered with so many more."""
        if not tokens:
            return "the prompt has no tokens"
        if self._context is not None and tokens + longest > self._context:
            return (
                f"a prompt of {tokens} tokens and {longest} new ones (sampling.max_new_tokens) "
                f"exceed the model's context of {self._context}"
            )
        return None

    @torch.inference_mode()
    def _write(
        self, prompts: list[list[int]], seeds: list[int], sampling: config.Sampling
    ) -> list[Completion]:
        """Answer one batch of tokenised prompts."""
        width = max(map(len, prompts))
        padding = self._ends[0] if self._ends else 0
        padded = [[padding] * (width - len(ids)) + ids for ids in prompts]
        seen = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
        mask = torch.tensor(seen, device=self._device)
        try:
            out = self._network.generate(
                input_ids=torch.tensor(padded, device=self._device),
                attention_mask=mask,
                generation_config=GenerationConfig(
                    do_sample=False,  # the chance lies in the logits processor
                    num_beams=1,
                    repetition_penalty=1.0,
                    max_new_tokens=sampling.max_new_tokens,
                    pad_token_id=padding,
                    eos_token_id=self._ends or None,
                ),
                logits_processor=LogitsProcessorList([KeyedSampler(sampling, seeds, mask)]),
                stopping_criteria=StoppingCriteriaList(
                    [StopTexts(sampling.stop, self._tokenizer, width)] if sampling.stop else []
                ),
            )
        except torch.OutOfMemoryError as error:
            msg = f"{self.model}: {len(prompts)} prompts of {width} tokens do not fit into the "
            msg += f"memory of {self._device}; lower generator.how.batch_size"
            raise GeneratorError(msg) from error
        return [
            self._read(ids[width:].tolist(), sampling, prompt_tokens=len(prompt))
            for ids, prompt in zip(out, prompts, strict=True)
        ]

    def _read(self, ids: list[int], sampling: config.Sampling, *, prompt_tokens: int) -> Completion:
        """Cut one row of new tokens at its end."""
        ended = next((place for place, token in enumerate(ids) if token in self._ends), None)
        count = len(ids) if ended is None else ended + 1
        text = self._tokenizer.decode(ids[:ended], skip_special_tokens=True)
        stops = [place for stop in sampling.stop if (place := text.find(stop)) >= 0]
        return Completion.written(
            text[: min(stops)] if stops else text,
            "length" if ended is None and not stops else "stop",
            prompt_tokens=prompt_tokens,
            completion_tokens=count,
        )


class KeyedSampler(LogitsProcessor):
    """Turns the choice of the best token into a draw that hangs on the row's own seed.

    The largest of ``logit - log(e)``, ``e`` exponentially distributed, is a draw from the softmax
    of the logits (the exponential race). transformers' own sampling draws for the whole batch
    from one stream, and its repetition penalty counts padding.
    """

    def __init__(self, sampling: config.Sampling, seeds: list[int], mask: torch.Tensor) -> None:
        self._temperature = sampling.temperature
        self._penalty = sampling.repetition_penalty
        self._mask = mask.bool()  # over the prompts: no padding
        # On the processor, whatever the device: the same numbers everywhere.
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._narrow: list[LogitsProcessor] = []
        if sampling.top_k:
            self._narrow.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            self._narrow.append(TopPLogitsWarper(sampling.top_p))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores (batch x vocabulary) whose largest is the token to write."""
        scores = self._penalise(input_ids, scores.float())
        if self._temperature == 0:
            return scores
        scores = scores / self._temperature
        for narrow in self._narrow:
            scores = narrow(input_ids, scores)  # pyright: ignore[reportArgumentType]
        race = torch.stack(
            [torch.empty(scores.shape[1]).exponential_(generator=each) for each in self._streams]
        )
        return scores - race.clamp_min_(torch.finfo(race.dtype).tiny).log_().to(scores.device)

    def _penalise(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Make tokens that stand in the prompt or the text less likely."""
        if self._penalty == 1:
            return scores
        # The last token is never padding, so it may stand in for what is.
        width = self._mask.shape[1]
        prompt = torch.where(self._mask, input_ids[:, :width], input_ids[:, width - 1 : width])
        ids = torch.cat([prompt, input_ids[:, width:]], dim=1)
        old = scores.gather(1, ids)
        new = torch.where(old < 0, old * self._penalty, old / self._penalty)
        return scores.scatter(1, ids, new)


class StopTexts(StoppingCriteria):
    """Ends a row once a stop text stands in what it wrote.

    transformers' own ``stop_strings`` takes the vocabulary apart, which word-level tokenizers
    do not survive.
    """

    def __init__(self, stops: tuple[str, ...], tokenizer: Any, width: int) -> None:
        self._stops = stops
        self._tokenizer = tokenizer
        self._width = width  # of the prompts
        self._tail = max(map(len, stops)) + 4  # tokens; each writes a character, but for a few

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> Any:
        """Return which rows are done, one truth value each."""
        del scores
        tails = input_ids[:, self._width :][:, -self._tail :].tolist()
        texts = self._tokenizer.batch_decode(tails, skip_special_tokens=True)
        done = [any(stop in text for stop in self._stops) for text in texts]
        return torch.tensor(done, device=input_ids.device)


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _load(settings: config.Generator, device: torch.device) -> tuple[Any, Any]:
    """Load tokenizer and model. Raises GeneratorError if there are none."""
    revision = settings.revision or "main"
    try:
        tokenizer = AutoTokenizer.from_pretrained(settings.model, revision=revision)
        network: Any = AutoModelForCausalLM.from_pretrained(
            settings.model, revision=revision, dtype="auto"
        )
    except (OSError, ValueError) as error:
        msg = f"generator.model {settings.model!r}, revision {revision!r}, cannot be loaded: "
        msg += f"{error}. Give a folder with a model and its tokenizer, or a hub id that is cached."
        raise GeneratorError(msg) from error
    return tokenizer, network.to(device).eval()


def _end_tokens(tokenizer: Any, network: Any) -> list[int]:
    """List the tokens that end a text: the model's, and the tokenizer's."""
    ends = network.generation_config.eos_token_id
    end_tokens = ends if isinstance(ends, list) else [ends]
    return list(dict.fromkeys(e for e in [*end_tokens, tokenizer.eos_token_id] if e is not None))
