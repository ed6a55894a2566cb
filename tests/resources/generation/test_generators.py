from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_endpoint import PROBE, FakeEndpoint, Fault

from cosmo_assets.algorithms.generation.rehearsal import rehearse
from cosmo_assets.config import generator as config
from cosmo_assets.core.errors import BadInputError, GeneratorError
from resources.generation import endpoints as pool
from resources.generation.backends import open_generator
from resources.generation.types import Completion, prompt_seed

if TYPE_CHECKING:
    from collections.abc import Iterator

HTTP = ("openai", "tgi")
PROMPTS = [f"prompt number {n}" for n in range(8)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def fake() -> Iterator[FakeEndpoint]:
    with FakeEndpoint() as endpoint:
        yield endpoint


def settings(
    backend: str, *urls: str, model: str = "fake-model", sampling: Any = None, **how: Any
) -> config.Generator:
    return config.Generator.model_validate(
        {
            "backend": backend,
            "model": model,
            "sampling": sampling or {},
            "how": {
                "endpoints": urls,
                "attempts": 4,
                "timeout_s": 20,
                "concurrency": 4,
                "outage_s": 0.5,
            }
            | how,
        }
    )


def complete(chosen: config.Generator, prompts: list[str] | None = None) -> list[Completion]:
    with open_generator(chosen, env={}) as generator:
        return generator.complete(PROMPTS if prompts is None else prompts)


def answer(prompt: str) -> str:
    return f"an answer to {prompt}"


def free_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("backend", HTTP)
def test_every_prompt_is_answered_in_prompt_order(backend: str) -> None:
    slow_first = {prompt: 0.08 - 0.01 * n for n, prompt in enumerate(PROMPTS)}
    with FakeEndpoint(delay_s=lambda prompt: slow_first.get(prompt, 0)) as fake:
        answers = complete(settings(backend, fake.url, concurrency=8))
    assert [each.text for each in answers] == [answer(prompt) for prompt in PROMPTS]
    assert {each.status for each in answers} == {"ok"}
    assert {each.finish_reason for each in answers} == {"stop"}
    assert {each.completion_tokens for each in answers} == {6}
    assert sorted(fake.prompts) == sorted(PROMPTS)


@pytest.mark.parametrize("backend", HTTP)
def test_the_window_is_kept_full_and_no_fuller(backend: str) -> None:
    with FakeEndpoint(delay_s=lambda _: 0.05) as fake:
        complete(settings(backend, fake.url, concurrency=3))
    assert fake.most_at_once == 3


@pytest.mark.parametrize("backend", HTTP)
def test_a_slow_prompt_holds_up_no_other(backend: str) -> None:
    slow = 3.0
    with FakeEndpoint(delay_s=lambda prompt: slow if prompt == PROMPTS[0] else 0.02) as fake:
        complete(settings(backend, fake.url, concurrency=2))
    (begun,) = [asked.at for asked in fake.asked if asked.prompt == PROMPTS[0]]
    # Seven quick ones pass beside the slow one; in rounds of two they could not.
    assert fake.asked[-1].at < begun + slow


def test_prompts_go_to_the_endpoint_with_least_to_do() -> None:
    def pace(prompt: str) -> float:
        return 0.0 if prompt == PROBE else 0.3

    with FakeEndpoint(delay_s=pace) as slow, FakeEndpoint() as quick:
        answers = complete(settings("openai", slow.url, quick.url, concurrency=2), PROMPTS * 4)
    assert [each.text for each in answers] == [answer(prompt) for prompt in PROMPTS * 4]
    assert len(slow.prompts) + len(quick.prompts) == 32
    assert len(slow.prompts) <= 4


@pytest.mark.parametrize("backend", HTTP)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(500),
        Fault(500, times=3),
        Fault(502, body="<html>Bad Gateway</html>"),
        Fault(503, body="<html>Busy</html>", headers={"Retry-After": "0"}),
        Fault(429, error_type="overloaded"),
        Fault(504, body="<html>Timeout</html>", times=2),
        Fault(0, times=2),
        Fault(200, body={"some": "thing"}, times=2),
        Fault(200, body="<html>Welcome</html>"),
        Fault(200, body=["not", "a", "completion"]),
    ],
    ids=repr,
)
def test_a_passing_fault_is_asked_past(fake: FakeEndpoint, backend: str, fault: Fault) -> None:
    fake.faults.append(
        Fault(
            fault.status, fault.body, fault.headers, fault.times, PROMPTS[3], "", fault.error_type
        )
    )
    answers = complete(settings(backend, fake.url))
    assert [each.text for each in answers] == [answer(prompt) for prompt in PROMPTS]
    assert len(fake.prompts) == len(PROMPTS) + fault.times


@pytest.mark.parametrize(
    ("backend", "status"), [("openai", 429), ("openai", 503), ("tgi", 429), ("tgi", 503)]
)
def test_retry_after_is_waited_for_and_holds_up_no_other(
    fake: FakeEndpoint, backend: str, status: int
) -> None:
    fake.faults.append(
        Fault(status, body="<html>Later</html>", headers={"Retry-After": "0.4"}, only=PROMPTS[0])
    )
    answers = complete(settings(backend, fake.url, concurrency=1))
    assert [each.status for each in answers] == ["ok"] * len(PROMPTS)
    assert fake.prompts == [*PROMPTS, PROMPTS[0]]
    first, *_, again = [asked.at for asked in fake.asked if asked.prompt == PROMPTS[0]]
    assert again - first >= 0.4


@pytest.mark.parametrize("backend", HTTP)
def test_odd_answers_among_good_ones_are_no_reason_to_give_up(
    fake: FakeEndpoint, backend: str
) -> None:
    fake.faults.extend(Fault(200, body={"a": 1}, only=prompt) for prompt in PROMPTS[::2])
    answers = complete(settings(backend, fake.url, concurrency=1))
    assert {each.status for each in answers} == {"ok"}


@pytest.mark.parametrize("backend", HTTP)
def test_a_stop_text_is_no_part_of_an_answer(fake: FakeEndpoint, backend: str) -> None:
    answers = complete(settings(backend, fake.url, sampling={"stop": ("prompt",)}))
    assert {each.text for each in answers} == {"an answer to "}


def test_a_date_in_retry_after_is_understood(fake: FakeEndpoint) -> None:
    past = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    fake.faults.append(Fault(503, headers=past, only=PROMPTS[0]))
    fake.faults.append(Fault(503, headers={"Retry-After": "soon"}, only=PROMPTS[1]))
    assert {each.status for each in complete(settings("openai", fake.url))} == {"ok"}


@pytest.mark.parametrize("backend", HTTP)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_prompt_fails_alone(fake: FakeEndpoint, backend: str, status: int) -> None:
    fake.faults.append(Fault(status, times=-1, only=PROMPTS[2], error_type="validation"))
    answers = complete(settings(backend, fake.url))
    assert [each.status for each in answers] == ["ok"] * 2 + ["failed"] + ["ok"] * 5
    assert answers[2].text is None
    assert answers[2].finish_reason is None
    assert "told to fail" in str(answers[2].error)
    assert len(fake.prompts) == len(PROMPTS)


@pytest.mark.parametrize("backend", HTTP)
def test_a_prompt_that_breaks_the_server_each_time_fails_alone(
    fake: FakeEndpoint, backend: str
) -> None:
    fake.faults.append(Fault(500, times=-1, only=PROMPTS[5]))
    answers = complete(settings(backend, fake.url))
    assert [row for row, each in enumerate(answers) if each.status == "failed"] == [5]
    assert answers[5].text is None
    assert "told to fail" in str(answers[5].error)
    assert fake.prompts.count(PROMPTS[5]) == 4


@pytest.mark.parametrize("backend", HTTP)
def test_a_prompt_past_its_deadline_fails_alone(backend: str) -> None:
    with FakeEndpoint(delay_s=lambda prompt: 1.0 if prompt == PROMPTS[0] else 0.0) as fake:
        answers = complete(settings(backend, fake.url, timeout_s=0.2, attempts=2))
    assert [each.status for each in answers] == ["failed"] + ["ok"] * 7
    assert "no answer within 0.2 s, 2 times" in str(answers[0].error)


@pytest.mark.parametrize("backend", HTTP)
def test_an_empty_answer_is_a_failure(backend: str) -> None:
    with FakeEndpoint(write=lambda prompt: " " if prompt == PROMPTS[0] else "words") as fake:
        answers = complete(settings(backend, fake.url))
    literal = "the model answered with an empty text"
    words = len(PROMPTS[0].split())
    assert answers[0] == Completion.failure(literal, prompt_tokens=words, completion_tokens=0)
    assert {each.text for each in answers[1:]} == {"words"}


def test_an_answer_that_a_filter_stopped_is_a_failure(fake: FakeEndpoint) -> None:
    choice = {"message": {"content": "half"}, "finish_reason": "content_filter"}
    body = {"model": "fake-model", "choices": [choice]}
    fake.faults.append(Fault(200, body=body, only=PROMPTS[0]))
    answers = complete(settings("openai", fake.url))
    assert answers[0].text is None
    assert "content_filter" in str(answers[0].error)


@pytest.mark.parametrize("backend", HTTP)
def test_an_answer_cut_at_the_limit_says_so(fake: FakeEndpoint, backend: str) -> None:
    answers = complete(settings(backend, fake.url, sampling={"max_new_tokens": 3}))
    assert {each.text for each in answers} == {"an answer to"}
    assert {each.finish_reason for each in answers} == {"length"}
    assert {each.completion_tokens for each in answers} == {3}


@pytest.mark.parametrize("backend", HTTP)
def test_a_server_that_is_not_there_is_named_at_once(backend: str) -> None:
    url = free_url()
    started = time.monotonic()
    with pytest.raises(GeneratorError, match=rf"{url}: asked 3 times .*how\.endpoints"):
        complete(settings(backend, url, attempts=6))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("backend", "fault", "requests", "said"),
    [
        ("openai", Fault(200, body={"a": 1}, times=-1), 3, r"no chat completion.*backend"),
        ("openai", Fault(200, body="<html/>", times=-1), 3, r"no chat completion.*html"),
        ("openai", Fault(401, times=-1), 1, r"HTTP 401.*api_key_env"),
        ("openai", Fault(403, times=-1), 1, r"HTTP 403.*api_key_env"),
        ("openai", Fault(404, times=-1), 1, r"HTTP 404.*endpoints.*model"),
        ("openai", Fault(400, times=-1), 1, r"HTTP 400.*top_k"),
        ("openai", Fault(500, times=-1), 4, r"asked 4 times.*HTTP 500.*log"),
        ("openai", Fault(503, times=-1), 4, r"HTTP 503.*concurrency"),
        ("openai", Fault(0, times=-1), 4, r"connection lost"),
        ("tgi", Fault(200, body={"a": 1}, times=-1), 3, r"no model_id.*backend"),
        ("tgi", Fault(200, body={"a": 1}, times=-1, path="/"), 6, r"off protocol.*backend"),
        ("tgi", Fault(401, times=-1), 1, r"HTTP 401.*api_key_env"),
        ("tgi", Fault(404, times=-1), 1, r"HTTP 404.*endpoints"),
        ("tgi", Fault(422, times=-1, path="/", error_type="validation"), 2, r"top_k"),
    ],
)
def test_an_endpoint_that_never_works_is_given_up(
    fake: FakeEndpoint, backend: str, fault: Fault, requests: int, said: str
) -> None:
    fake.faults.append(Fault(fault.status, fault.body, {}, -1, "", fault.path, fault.error_type))
    with pytest.raises(GeneratorError, match=said) as caught:
        complete(settings(backend, fake.url), [f"prompt {n}" for n in range(100)])
    assert fake.url in str(caught.value)
    assert len(fake.asked) == requests
    assert fake.prompts == []


@pytest.mark.parametrize("backend", HTTP)
@pytest.mark.parametrize(
    ("fault", "most"),
    [
        (Fault(200, body={"a": 1}), 20),
        (Fault(404, body="<html/>"), 10),
        (Fault(503, body="<html/>"), 400),
        (Fault(500), 400),
    ],
    ids=["shape", "place", "busy", "fault"],
)
def test_an_endpoint_that_stops_working_is_given_up(
    fake: FakeEndpoint, backend: str, fault: Fault, most: int
) -> None:
    with open_generator(settings(backend, fake.url), env={}) as generator:
        generator.complete(PROMPTS)
        fake.faults.append(Fault(fault.status, fault.body, times=-1))
        fake.asked.clear()
        with pytest.raises(GeneratorError, match=fake.url):
            generator.complete([f"prompt {n}" for n in range(1_000)])
        assert len(fake.asked) <= most
        fake.faults.clear()
        assert generator.complete(["again"])[0].text == answer("again")


@pytest.mark.parametrize("backend", HTTP)
@pytest.mark.parametrize(
    ("asked", "served", "same"),
    [
        ("fake-model", "fake-model", True),
        ("org/fake-model", "/data/models/fake-model", True),
        ("/data/fake-model/", "org/fake-model", True),
        ("org/fake-model", "fake-model", True),
        ("org/fake-model", "other/fake-model", False),
        ("fake-model", "another-model", False),
        ("model", "fake-model", False),
        ("fake-model", "fake-model-7b", False),
    ],
)
def test_a_model_under_another_name_is_noticed(
    backend: str, asked: str, served: str, *, same: bool
) -> None:
    with FakeEndpoint(model=served) as fake:
        chosen = settings(backend, fake.url, model=asked)
        if same:
            assert {each.status for each in complete(chosen)} == {"ok"}
        else:
            with pytest.raises(GeneratorError, match=rf"{asked!r}.*{served!r}"):
                complete(chosen)
            assert fake.prompts == []


def test_openai_is_sent_every_sampling_parameter(fake: FakeEndpoint) -> None:
    sampling = {
        "temperature": 0.7, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1,
        "max_new_tokens": 77, "stop": ("END",), "seed": 5,
    }  # fmt: skip
    complete(settings("openai", fake.url, sampling=sampling), ["one"])
    assert fake.asked[-1].body == {
        "model": "fake-model",
        "messages": [{"role": "user", "content": "one"}],
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
        "repetition_penalty": 1.1,
        "max_tokens": 77,
        "stop": ["END"],
        "seed": prompt_seed("one", seed=5),
    }


def test_openai_is_not_sent_extra_fields_that_change_nothing(fake: FakeEndpoint) -> None:
    complete(settings("openai", fake.url, sampling={"top_k": 0, "repetition_penalty": 1}), ["one"])
    assert {"top_k", "repetition_penalty", "stop"} & fake.asked[-1].body.keys() == set()


def test_tgi_is_sent_every_sampling_parameter(fake: FakeEndpoint) -> None:
    sampling = {
        "temperature": 0.7, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1,
        "max_new_tokens": 77, "stop": ("END",), "seed": 5,
    }  # fmt: skip
    complete(settings("tgi", fake.url, sampling=sampling), ["one"])
    sent = {name: value for name, value in fake.asked[-1].body["parameters"].items() if value}
    assert sent == {
        "do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 40,
        "repetition_penalty": 1.1, "max_new_tokens": 77, "stop": ["END"], "details": True,
        "seed": prompt_seed("one", seed=5),
    }  # fmt: skip


def test_tgi_is_greedy_at_temperature_zero(fake: FakeEndpoint) -> None:
    answers = complete(settings("tgi", fake.url, sampling={"temperature": 0, "top_p": 1}), ["one"])
    sent = fake.asked[-1].body["parameters"]
    assert [sent[name] for name in ("do_sample", "temperature", "top_p", "top_k")] == [
        False, None, None, None,
    ]  # fmt: skip
    assert answers[0].status == "ok"


def test_prompts_draw_from_seeds_of_their_own() -> None:
    seeds = {prompt_seed(prompt, seed=seed) for prompt in PROMPTS for seed in range(4)}
    assert len(seeds) == 32
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert prompt_seed("one", seed=0) == prompt_seed("one", seed=0)


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_an_openai_endpoint_may_be_given_in_short_or_in_full(
    fake: FakeEndpoint, suffix: str
) -> None:
    complete(settings("openai", fake.url + suffix), ["one"])
    assert fake.asked[-1].path == "/v1/chat/completions"


@pytest.mark.parametrize("backend", HTTP)
def test_the_key_is_sent_and_never_told(backend: str) -> None:
    key = "sk-very-secret"
    with FakeEndpoint(api_key=key) as fake:
        chosen = settings(backend, fake.url, api_key_env="FAKE_KEY")
        with open_generator(chosen, env={"FAKE_KEY": key}) as generator:
            assert {each.status for each in generator.complete(PROMPTS)} == {"ok"}
            echo = f"no such prompt for Bearer {key}"
            fake.faults.append(
                Fault(400, body={"error": echo, "error_type": "validation"}, only="one")
            )
            message = str(generator.complete(["one", "two"])[0])
            assert key not in message + repr(generator) + repr(chosen)
            assert "[key]" in message


@pytest.mark.parametrize("backend", HTTP)
def test_a_refused_key_is_not_in_the_error(backend: str) -> None:
    with FakeEndpoint(api_key="another") as fake:
        chosen = settings(backend, fake.url, api_key_env="FAKE_KEY")
        with (
            open_generator(chosen, env={"FAKE_KEY": "sk-wrong"}) as generator,
            pytest.raises(GeneratorError, match=r"HTTP 401.*api_key_env") as caught,
        ):
            generator.complete(PROMPTS)
        assert len(fake.asked) == 1
    assert "sk-wrong" not in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_key_that_is_not_set_is_asked_for() -> None:
    chosen = settings("openai", "http://127.0.0.1:1", api_key_env="FAKE_KEY")
    with pytest.raises(BadInputError, match="FAKE_KEY is not set"):
        open_generator(chosen, env={"OTHER": "x"})


@pytest.mark.parametrize("backend", HTTP)
def test_progress_counts_up_to_all(fake: FakeEndpoint, backend: str) -> None:
    seen: list[int] = []
    fake.faults.append(Fault(400, only=PROMPTS[0], error_type="validation"))
    with open_generator(settings(backend, fake.url), env={}) as generator:
        generator.complete(PROMPTS, on_progress=seen.append)
        assert generator.complete([]) == []
    assert seen == list(range(1, 9))


def test_an_error_of_the_caller_comes_through(fake: FakeEndpoint) -> None:
    def stop(_count: int) -> None:
        raise ZeroDivisionError

    with (
        open_generator(settings("openai", fake.url), env={}) as generator,
        pytest.raises(ZeroDivisionError),
    ):
        generator.complete(PROMPTS, on_progress=stop)


@pytest.mark.parametrize("backend", HTTP)
def test_an_endpoint_is_greeted_once(fake: FakeEndpoint, backend: str) -> None:
    with open_generator(settings(backend, fake.url), env={}) as generator:
        for _ in range(3):
            generator.complete(PROMPTS)
    assert sum(asked.prompt == PROBE for asked in fake.asked) == 1
    assert len(fake.prompts) == 3 * len(PROMPTS)


def test_the_rehearsal_answers_without_a_server() -> None:
    chosen = config.Generator()
    seen: list[int] = []
    with open_generator(chosen, env={}) as generator:
        answers = generator.complete(PROMPTS, on_progress=seen.append)
    assert generator.model == "rehearsal"
    assert [each.text for each in answers] == [rehearse(prompt, seed=0)[0] for prompt in PROMPTS]
    assert {each.prompt_tokens for each in answers} == {3}
    assert seen == list(range(1, 9))


def test_the_rehearsal_keeps_to_the_token_limit() -> None:
    chosen = config.Generator(sampling=config.Sampling(max_new_tokens=40))
    answers = complete(chosen)
    assert {len(str(each.text).split()) for each in answers} == {40}
    assert {each.finish_reason for each in answers} == {"length"}
    assert {each.completion_tokens for each in answers} == {40}


def test_choosing_a_generator_loads_no_heavy_library() -> None:
    program = (
        "import sys, resources.generation.backends as g\n"
        "from cosmo_assets.config import generator as config\n"
        "g.open_generator(config.Generator(), env={})\n"
        "print(sorted({'torch', 'transformers', 'aiohttp', 'text_generation'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == "[]"


# A model of its own: two layers, random weights, words for tokens.

WORDS = (
    "the", "a", "cat", "dog", "sat", "ran", "on", "mat", "rug", "red", "big", "user", "says",
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch  # noqa: PLC0415
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = {word: at for at, word in enumerate(["<unk>", "<s>", "</s>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=64,
            initializer_range=0.3,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).save_pretrained(folder)
    return folder


TINY_PROMPTS = ["the cat sat", "a dog", "the big red dog ran on the mat", "a rug", "on the mat sat"]


def local(model: Path, *, batch_size: int = 2, **sampling: Any) -> config.Generator:
    chosen = {"temperature": 1.0, "max_new_tokens": 12, "top_k": 12, "top_p": 0.95} | sampling
    how = {"batch_size": batch_size, "device": "cpu"}
    return settings("transformers", model=str(model), sampling=chosen, **how)


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_local_model_answers_the_same_in_any_batch(tiny: Path, temperature: float) -> None:
    alone = complete(local(tiny, batch_size=1, temperature=temperature), TINY_PROMPTS)
    for batch_size in (2, 3, 5):
        chosen = local(tiny, batch_size=batch_size, temperature=temperature)
        assert complete(chosen, TINY_PROMPTS) == alone
    backwards = complete(local(tiny, batch_size=5, temperature=temperature), TINY_PROMPTS[::-1])
    assert backwards[::-1] == alone
    assert {each.status for each in alone} == {"ok"}
    assert [each.prompt_tokens for each in alone] == [3, 2, 8, 2, 4]


def test_a_local_model_draws_anew_for_another_seed(tiny: Path) -> None:
    names, two = (
        [each.text for each in complete(local(tiny, seed=seed), TINY_PROMPTS)] for seed in (1, 2)
    )
    assert names != two


def test_each_prompt_of_a_local_model_has_chances_of_its_own(tiny: Path) -> None:
    # Words the tokenizer does not know: the model sees the same token each time.
    answers = complete(local(tiny, batch_size=4), ["zebra", "lion", "fox", "owl"])
    assert len({each.text for each in answers}) == 4


def test_a_local_model_says_how_it_ended(tiny: Path) -> None:
    answers = complete(local(tiny), [f"the {word}" for word in WORDS])
    full = {each.completion_tokens for each in answers if each.finish_reason == "length"}
    short = {each.completion_tokens for each in answers if each.finish_reason == "stop"}
    assert full == {12}
    assert min(map(int, filter(None, short))) < 12
    assert {each.finish_reason for each in answers} == {"stop", "length"}


def test_a_local_model_stops_at_a_stop_text(tiny: Path) -> None:
    free = complete(local(tiny), TINY_PROMPTS)
    stop = str(free[0].text).split()[2]
    for each, before in zip(complete(local(tiny, stop=(stop,)), TINY_PROMPTS), free, strict=True):
        assert str(each.text).strip() == str(before.text).split(stop)[0].strip()
        assert each.finish_reason == ("stop" if stop in str(before.text) else before.finish_reason)


def test_a_prompt_beyond_the_context_fails_alone(tiny: Path) -> None:
    seen: list[int] = []
    with open_generator(local(tiny), env={}) as generator:
        answers = generator.complete(["cat " * 60, "the cat", ""], on_progress=seen.append)
    assert [each.status for each in answers] == ["failed", "ok", "failed"]
    assert "60 tokens" in str(answers[0].error)
    assert "context of 64" in str(answers[0].error)
    assert seen[-1] == 3


def test_a_chat_template_is_applied(tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415

    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = "<s> user {{ messages[0]['content'] }} says"
    tokenizer.save_pretrained(tmp_path)
    answers = complete(local(tmp_path), TINY_PROMPTS)
    assert [each.prompt_tokens for each in answers] == [6, 5, 11, 5, 7]


@pytest.fixture(scope="module")
def chatty(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a chat template, which servers ask for."""
    from transformers import AutoTokenizer  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("chatty")
    shutil.copytree(tiny, folder, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = "<s> user {{ messages[0]['content'] }} says"
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def served(chatty: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real ``transformers serve`` with that model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    log = tmp_path_factory.mktemp("served") / "log"
    command = [Path(sys.executable).with_name("transformers"), "serve", chatty]
    options = ["--device", "cpu", "--host", "127.0.0.1", "--port", port]
    with log.open("wb") as out:
        server = subprocess.Popen([*command, *options], stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                break
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_transformers_serve_writes_what_the_model_writes_here(served: str, chatty: Path) -> None:
    greedy = {"temperature": 0.0, "max_new_tokens": 12, "top_k": 0, "repetition_penalty": 1.0}
    here = complete(settings("transformers", model=str(chatty), sampling=greedy), TINY_PROMPTS)
    there = complete(settings("openai", served, model=str(chatty), sampling=greedy), TINY_PROMPTS)
    assert [each.text for each in there] == [each.text for each in here]
    cut = [each.finish_reason == "length" for each in there]  # of the others it says nothing
    assert cut == [each.finish_reason == "length" for each in here]
    assert True in cut
    assert False in cut
    assert [each.prompt_tokens for each in there] == [each.prompt_tokens for each in here]
    assert len({each.text for each in here}) > 1


def test_sampling_follows_the_models_odds() -> None:
    import torch  # noqa: PLC0415

    from resources.generation.local import KeyedSampler  # noqa: PLC0415

    sampling = config.Sampling(temperature=1, top_k=0, top_p=1, repetition_penalty=1)
    odds = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draws = 4_000
    sampler = KeyedSampler(sampling, list(range(draws)), torch.ones(draws, 1))
    scores = sampler(torch.zeros(draws, 1, dtype=torch.long), odds.log().repeat(draws, 1))
    shares = scores.argmax(dim=1).bincount(minlength=4) / draws
    assert torch.allclose(shares, odds, atol=0.03)


def test_the_repetition_penalty_counts_no_padding() -> None:
    import torch  # noqa: PLC0415

    from resources.generation.local import KeyedSampler  # noqa: PLC0415

    sampling = config.Sampling(temperature=0, repetition_penalty=2)
    sampler = KeyedSampler(sampling, [0, 0], torch.tensor([[0, 1], [1, 1]]))
    scores = sampler(torch.tensor([[0, 1, 2], [0, 1, 1]]), torch.tensor([[4.0, 4, -4]] * 2))
    assert scores.tolist() == [[4, 2, -8], [2, 2, -4]]


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match=r"nowhere.*cannot be loaded"):
        open_generator(local(tmp_path / "nowhere"), env={})
