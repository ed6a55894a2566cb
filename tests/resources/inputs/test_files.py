from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import polars as pl
import pytest
import zstandard

import resources.inputs.files
from cosmo_assets.algorithms.seeds import check_duplicates, seed_documents
from cosmo_assets.config.schema import Config, Source
from cosmo_assets.core.errors import BadInputError
from resources.inputs.files import Outside, observe
from resources.inputs.rows import read_file

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = [
    {"title": "Soup", "text": "Boil the leeks."},
    {"title": "007", "text": "1.50"},
    {"title": "", "text": 'Quotes ", commas,\nand lines; é.'},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "lake" / "digests.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three files."""
    inside = tmp_path / "in"
    inside.mkdir()
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        (inside / name).write_bytes(LINES)
    return inside


def configure(how: dict[str, Any], **source: Any) -> Config:
    given = {"kind": "web", "group": "web", "licence": "CC0-1.0", "how": how, **source}
    return Config.model_validate(
        {"sources": {"s": given}, "groups": {"web": {"topics": "cluster"}}}
    )


def look(path: Path | str, memory: Path, **how: Any) -> Outside:
    return observe(configure({"path": str(path), **how}), memory=memory)


def versions(outside: Outside) -> dict[str, list[str]]:
    return {shard: [file.version for file in files] for shard, files in outside.shards["s"].items()}


def test_few_files_are_a_shard_each(folder: Path, memory: Path) -> None:
    outside = look(folder / "*.jsonl", memory)
    assert list(outside.shards["s"]) == ["a", "b", "c"]
    (file,) = outside.shard("s:a")
    assert (file.name, file.location) == ("a.jsonl", str(folder / "a.jsonl"))
    assert [file.version for file in outside.shard("s:b")] == [file.version]


def test_one_file_needs_no_glob(folder: Path, memory: Path) -> None:
    assert list(look(folder / "b.jsonl", memory).shards["s"]) == ["b"]


@pytest.mark.parametrize(
    ("name", "shard"),
    [
        ("A b.JSONL", "a_b"),
        ("x.csv.gz", "x"),
        ("x.v1.parquet", "x.v1"),
        ("été.ndjson.zst", "été"),
        ("a...b.csv", "a_b"),
        ("....csv", "__"),
        (".csv", "all"),
    ],
)
def test_a_shard_goes_by_the_plain_name_of_its_file(
    tmp_path: Path, memory: Path, name: str, shard: str
) -> None:
    (tmp_path / name).write_bytes(b"text\nx\n")
    assert list(look(tmp_path / name, memory).shards["s"]) == [shard]


def test_many_files_share_hashed_shards_that_newcomers_do_not_move(
    folder: Path, memory: Path
) -> None:
    for number in range(40):
        (folder / f"part-{number}.jsonl").write_bytes(LINES)
    before = look(folder / "*.jsonl", memory, max_files_apart=8).shards["s"]
    (folder / "new.jsonl").write_bytes(LINES)
    after = look(folder / "*.jsonl", memory, max_files_apart=8).shards["s"]
    assert set(before) == {f"s{number:02d}" for number in range(8)}
    assert sum(map(len, before.values())) == 43
    moved = [shard for shard in after if after[shard] != before[shard]]
    assert len(moved) == 1
    assert sum(map(len, after.values())) == 44


@pytest.mark.parametrize(
    "names", [("a.jsonl", "a.csv"), ("A.jsonl", "a.csv"), ("x y.csv", "x_y.csv")]
)
def test_two_files_that_would_make_one_shard_are_refused(
    tmp_path: Path, memory: Path, names: tuple[str, str]
) -> None:
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_bytes(LINES)
    with pytest.raises(BadInputError) as caught:
        look(tmp_path / "in" / "*", memory)
    assert "would both be shard" in str(caught.value)
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("apart", [1, 24])
def test_files_of_one_name_in_two_folders_are_told_apart(
    folder: Path, memory: Path, apart: int
) -> None:
    for name in ("x", "y"):
        (folder / name).mkdir()
        (folder / name / "rows.jsonl").write_bytes(LINES)
    outside = look(folder / "*" / "rows.jsonl", memory, max_files_apart=apart)
    names = sorted(file.name for files in outside.shards["s"].values() for file in files)
    assert names == ["x/rows.jsonl", "y/rows.jsonl"]
    assert list(outside.shards["s"]) == (["s00"] if apart == 1 else ["x_rows", "y_rows"])


def test_names_do_not_change_with_the_folder(folder: Path, memory: Path, tmp_path: Path) -> None:
    before = look(f"{folder}//.///**/*.jsonl", memory)
    folder.rename(tmp_path / "elsewhere")
    after = look(tmp_path / "elsewhere" / "**" / "*.jsonl", memory)
    assert versions(before) == versions(after)
    assert [file.name for (file,) in before.shards["s"].values()] == [
        "a.jsonl",
        "b.jsonl",
        "c.jsonl",
    ]
    assert [file.name for (file,) in after.shards["s"].values()] == [
        "a.jsonl",
        "b.jsonl",
        "c.jsonl",
    ]


def test_folders_that_a_glob_meets_are_no_files(folder: Path, memory: Path) -> None:
    (folder / "deep.jsonl").mkdir()
    assert list(look(folder / "*", memory).shards["s"]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("{in}/*.csv", "sources.s.how.path: {in}/*.csv: no such file; give a path, a glob, s3://"),
        ("{in}", "no such file"),
        ("{in}/gone.csv", "no such file"),
        ("$COSMO_GONE/*.csv", "$COSMO_GONE/*.csv: a variable in it is not set"),
        ("hub:$COSMO_GONE/x", "a variable in it is not set"),
        ("package:gone/*.md", "no such file"),
        ("python:dosc", "python:dosc: there is python:docs and python:code only"),
    ],
)
def test_a_place_without_files_is_told_with_its_key(
    folder: Path, memory: Path, path: str, told: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        look(path.replace("{in}", str(folder)), memory)
    assert str(caught.value).startswith("sources.s.how.path: ")
    assert told.replace("{in}", str(folder)) in str(caught.value)


def test_a_variable_in_a_path_is_filled_in(
    folder: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSMO_HERE", str(folder))
    assert list(look("$COSMO_HERE/a.*", memory).shards["s"]) == ["a"]
    assert list(look("${COSMO_HERE}/b.*", memory).shards["s"]) == ["b"]


def test_templates_benchmarks_and_corpora_are_looked_at_too(folder: Path, memory: Path) -> None:
    (folder / "story.md").write_text("x")
    (folder / "essay.md").write_text("y")
    styles: Any = {"how": {"folder": str(folder)}}
    tree = configure({"path": str(folder / "a.jsonl")}).model_dump()
    tree["styles"] = styles
    tree["benchmarks"] = {"quiz": {"how": {"path": str(folder / "[ab].jsonl")}}}
    tree["corpora"] = {"wiki": {"licence": "MIT", "how": {"path": str(folder / "b.jsonl")}}}
    outside = observe(Config.model_validate(tree), memory=memory)
    assert [file.name for file in outside.corpora["wiki"]] == ["b.jsonl"]
    assert list(outside.templates) == ["essay", "story"]
    assert [benchmark.name for benchmark in outside.benchmarks["quiz"]] == ["a.jsonl", "b.jsonl"]
    styles["only"] = ["story"]
    assert list(observe(Config.model_validate(tree), memory=memory).templates) == ["story"]
    styles["only"] = ["story", "gone"]
    with pytest.raises(BadInputError, match=r"styles\.only: no template file for \['gone'\]"):
        observe(Config.model_validate(tree), memory=memory)


def test_a_file_that_may_not_be_read_is_told(
    folder: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = Path.stat

    def refuse(path: Path, **given: bool) -> os.stat_result:
        if path.name == "a.jsonl" and path.read_bytes():
            raise PermissionError(13, "Permission denied")
        return stat(path, **given)

    monkeypatch.setattr(Path, "is_file", lambda _: True)
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(BadInputError, match=r"a\.jsonl: cannot be read: Permission denied"):
        look(folder / "a.jsonl", memory)


def test_a_touched_file_keeps_its_version_and_an_edited_one_does_not(
    folder: Path, memory: Path
) -> None:
    before = versions(look(folder / "*.jsonl", memory))
    os.utime(folder / "a.jsonl", (1, 1))
    (folder / "b.jsonl").unlink()
    (folder / "b.jsonl").write_bytes(LINES)
    assert versions(look(folder / "*.jsonl", memory)) == before
    edited = LINES.replace(b"Soup", b"Stew")
    (folder / "a.jsonl").write_bytes(edited)  # as long as before, and perhaps in the same tick
    after = versions(look(folder / "*.jsonl", memory))
    assert after["a"] != before["a"]
    assert {**after, "a": before["a"]} == before


def test_an_edit_that_keeps_size_and_modification_time_is_seen(
    folder: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources.inputs.files, "SETTLED_NS", -1)
    os.utime(folder / "a.jsonl", (1, 1))
    before = versions(look(folder / "a.jsonl", memory))
    (folder / "a.jsonl").write_bytes(LINES.replace(b"Soup", b"Stew"))
    os.utime(folder / "a.jsonl", (1, 1))
    assert versions(look(folder / "a.jsonl", memory)) != before


def test_files_that_settled_are_not_read_again(
    folder: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(folder / "*.jsonl", memory)
    assert not memory.exists() or str(folder) not in memory.read_text()  # too young to trust
    monkeypatch.setattr(resources.inputs.files, "SETTLED_NS", -1)
    before = versions(look(folder / "*.jsonl", memory))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("hashlib.file_digest", refuse)
    stamp = memory.stat()
    assert versions(look(folder / "*.jsonl", memory)) == before
    assert memory.stat().st_ino == stamp.st_ino  # nothing new to write


@pytest.mark.parametrize(
    "torn", [b"", b'{"a": [1,', b"\xff\xfe", b"[1, 2]", b"null", b'{"%s": 7}', b'{"%s": []}']
)
def test_a_torn_memory_costs_a_look_and_nothing_else(
    folder: Path, memory: Path, torn: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources.inputs.files, "SETTLED_NS", -1)
    before = versions(look(folder / "a.jsonl", memory))
    memory.write_bytes(torn.replace(b"%s", str(folder / "a.jsonl").encode()))
    assert versions(look(folder / "a.jsonl", memory)) == before
    assert str(folder / "a.jsonl") in json.loads(memory.read_text())


def write_jsonl(path: Path) -> None:
    path.write_bytes(LINES)


def write_bom(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + LINES)


def write_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(LINES[:40]) + gzip.compress(LINES[40:]))


def write_zst(path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab"  # a frame that readers pass over
    path.write_bytes(zstandard.compress(LINES[:40]) + skipped + zstandard.compress(LINES[40:]))


def write_csv(path: Path) -> None:
    pl.DataFrame(ROWS).write_csv(path)


def write_csv_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(pl.DataFrame(ROWS).write_csv().encode("utf-8-sig")))


def write_parquet(path: Path) -> None:
    pl.DataFrame(ROWS).write_parquet(path)


WRITERS = {
    "a.jsonl": write_jsonl,
    "a.ndjson": write_bom,
    "a.jsonl.gz": write_gz,
    "a.jsonl.zst": write_zst,
    "a.csv": write_csv,
    "a.csv.gz": write_csv_gz,
    "a.parquet": write_parquet,
}
SOURCE = Source.model_validate(
    {"kind": "web", "group": "web", "licence": "CC0-1.0", "how": {"path": "x"}}
)


@pytest.mark.parametrize(("name", "write"), WRITERS.items(), ids=WRITERS)
def test_the_same_rows_are_the_same_documents_in_every_format(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    rows = read_file(str(tmp_path / name))
    wanted = seed_documents(pl.DataFrame(ROWS), SOURCE, name="s", file="f")
    assert seed_documents(rows, SOURCE, name="s", file="f").equals(wanted)


def test_json_lines_may_differ_in_their_keys_and_blank_lines_are_passed_over(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\n\n{"text": 5, "late": [1]}\n')
    got = read_file(str(tmp_path / "a.jsonl"))
    assert got.to_dicts() == [{"text": "x", "late": None}, {"text": "5", "late": [1]}]


PARQUET = pl.DataFrame(ROWS).write_parquet
BAD = {
    "empty.jsonl": (b"", "the file is empty; remove it or fill it"),
    "blank.jsonl": (b"\n \n", "the file is empty"),
    "empty.csv.gz": (gzip.compress(b""), "the file is empty"),
    "empty.jsonl.zst": (zstandard.compress(b""), "the file is empty"),
    "latin.jsonl": (LINES + b'{"text": "caf\xe9"}\n', "row 4: not UTF-8: byte b'\\xe9'; save"),
    "latin.csv": (b"text\nok\ncaf\xe9\n", "row 3: not UTF-8"),
    "cut.jsonl": (LINES[:-9], "row 3: not JSON (Unterminated string"),
    "word.jsonl": (LINES + b"\nword\n", "row 5: not JSON (Expecting value"),
    "list.jsonl": (LINES + b"[1]\n", "row 4: not a JSON object: b'[1]'"),
    "number.jsonl": (b"3\n" + LINES, "row 1: not a JSON object: b'3'"),
    "two.jsonl": (b"\n" + LINES + b"{} {}\n", "row 5: not JSON (Extra data"),
    "wide.csv": (b"text\na,b\n", "cannot be read: "),
    "open.csv": (b'text\n"a\n', "cannot be read: "),
    "words.parquet": (b"not a parquet file", "cannot be read: "),
    "cut.jsonl.gz": (gzip.compress(LINES)[:-5], "cannot be unpacked: "),
    "plain.jsonl.gz": (LINES, "cannot be unpacked: "),
    "spoilt.jsonl.gz": (gzip.compress(LINES)[:12] + b"\xff" * 40, "cannot be unpacked: "),
    "cut.jsonl.zst": (zstandard.compress(LINES)[:-5], "cannot be unpacked: the file ends in"),
    "cut2.jsonl.zst": (zstandard.compress(LINES) * 2 + b"\x28\xb5\x2f", "cannot be unpacked: "),
    "plain.jsonl.zst": (LINES, "cannot be unpacked: "),
    "rows.xlsx": (b"PK", "unknown format; expected one of .parquet, .jsonl, .ndjson, .csv"),
    "rows.gz": (gzip.compress(b"x"), "unknown format"),
}


@pytest.mark.parametrize(("name", "case"), BAD.items(), ids=BAD)
def test_a_bad_file_is_told_with_its_name_and_the_row(
    tmp_path: Path, name: str, case: tuple[bytes, str]
) -> None:
    data, message = case
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInputError) as caught:
        read_file(str(tmp_path / name))
    assert str(caught.value).startswith(f"{name}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_parquet_file_is_told(tmp_path: Path, share: float) -> None:
    pl.DataFrame(ROWS).write_parquet(tmp_path / "whole.parquet")
    data = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadInputError, match=r"cut\.parquet: cannot be read: .*; mend or replace"):
        read_file(str(tmp_path / "cut.parquet"))


def test_a_file_that_went_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"gone\.csv: cannot be read: "):
        read_file(str(tmp_path / "gone.csv"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay out a folder as the Hub does, with two splits."""
    import datasets.config  # noqa: PLC0415  # seconds

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    inside = tmp_path / "mine"
    (inside / "data").mkdir(parents=True)
    (inside / "README.md").write_text("# Mine\n")
    pl.DataFrame(ROWS).write_parquet(inside / "data" / "train-0.parquet")
    pl.DataFrame(ROWS[:1]).write_parquet(inside / "data" / "test-0.parquet")
    return inside


def test_a_local_hub_folder_is_read_offline(hub: Path) -> None:
    got = read_file(f"hub:{hub}")
    assert got.select("title", "text").to_dicts() == ROWS
    assert read_file(f"hub:{hub}", hub=(None, "test", "")).height == 1


@pytest.mark.parametrize("name", ["{mine}", "{mine}/gone", "nobody/has-this"])
def test_a_hub_data_set_that_cannot_be_had_is_told(hub: Path, name: str) -> None:
    with pytest.raises(BadInputError, match=r"\(split gone\): .*check the name, the split"):
        read_file("hub:" + name.replace("{mine}", str(hub)), hub=(None, "gone", ""))


def test_a_spoilt_file_in_a_hub_folder_is_told(hub: Path) -> None:
    (hub / "data" / "train-0.parquet").write_bytes(b"PAR1 spoilt")
    with pytest.raises(BadInputError, match=r"hub:.*\(split train\): "):
        read_file(f"hub:{hub}")


def test_a_local_hub_folder_has_the_version_of_its_files(hub: Path, memory: Path) -> None:
    before = look(f"hub:{hub}", memory)
    assert list(before.shards["s"]) == ["mine"]
    (hub / ".git").mkdir()
    (hub / ".git" / "index.lock").write_text("x")
    assert look(f"hub:{hub}", memory) == before
    pl.DataFrame(ROWS[1:]).write_parquet(hub / "data" / "train-0.parquet")
    assert versions(look(f"hub:{hub}", memory)) != versions(before)


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    "change", [{"how": {"hub_split": "test"}}, {"how": {"hub_config": "b"}}, {"revision": "v2"}]
)
def test_which_rows_of_a_hub_data_set_are_meant_is_part_of_its_version(
    hub: Path, memory: Path, change: dict[str, Any], *, local: bool
) -> None:
    path = f"hub:{hub}" if local else "hub:nobody/has-this"
    how = {"path": path, **change.get("how", {})}
    outside = observe(configure({"path": path}), memory=memory)
    two = observe(configure(how, revision=change.get("revision", "")), memory=memory)
    unmoved = local and "revision" in change  # a folder has no revisions
    assert (versions(outside) == versions(two)) is unmoved


@pytest.fixture
def bucket(s3: Any) -> Any:
    """Give a bucket of three objects."""
    for name in ("a", "b", "deep/c"):
        s3.pipe_file(f"bucket/in/{name}.jsonl", LINES)
    return s3


def test_objects_are_files_too(bucket: Any, memory: Path) -> None:
    pairs = look("s3://bucket/in/**/*.jsonl", memory).shards["s"]
    assert [file.name for (file,) in pairs.values()] == ["a.jsonl", "b.jsonl", "deep/c.jsonl"]
    assert list(pairs) == ["a", "b", "deep_c"]
    assert read_file(pairs["a"][0].location).to_dicts() == ROWS
    assert list(look("s3://bucket/in/b.jsonl", memory).shards["s"]) == ["b"]
    assert list(look("s3://bucket/in/*", memory).shards["s"]) == ["a", "b"]  # deep is a folder
    bucket.pipe_file("bucket/in/z.jsonl.zst", zstandard.compress(LINES))
    assert read_file("s3://bucket/in/z.jsonl.zst").to_dicts() == ROWS


def test_new_edited_and_deleted_objects_are_seen_by_the_same_process(
    bucket: Any, memory: Path
) -> None:
    before = versions(look("s3://bucket/in/*.jsonl", memory))
    assert list(before) == ["a", "b"]
    bucket.pipe_file("bucket/in/d.jsonl", LINES)
    added = versions(look("s3://bucket/in/*.jsonl", memory))
    assert added == before | {"d": before["a"]}
    bucket.pipe_file("bucket/in/a.jsonl", LINES.replace(b"Soup", b"Stew"))
    edited = versions(look("s3://bucket/in/*.jsonl", memory))
    assert edited["a"] != before["a"]
    assert edited["b"] == before["b"]
    bucket.rm("bucket/in/b.jsonl")
    assert list(versions(look("s3://bucket/in/*.jsonl", memory))) == ["a", "d"]
    bucket.pipe_file("bucket/in/a.jsonl", LINES)
    assert versions(look("s3://bucket/in/a.jsonl", memory)) == {"a": before["a"]}


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    "path", ["s3://bucket/in/*.csv", "s3://bucket/gone.csv", "s3://no-such/*", "s3://bucket/**.csv"]
)
def test_a_place_without_objects_is_told(memory: Path, path: str) -> None:
    with pytest.raises(BadInputError, match=r"^sources\.s\.how\.path: s3://"):
        look(path, memory)


@pytest.mark.usefixtures("bucket")
def test_an_object_that_went_away_is_told() -> None:
    with pytest.raises(BadInputError, match=r"gone\.csv: cannot be read: "):
        read_file("s3://bucket/gone.csv")


def test_a_store_that_does_not_answer_is_told(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(BadInputError, match="check the path, the bucket, the credentials, the"):
        look("s3://bucket/*.csv", memory)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_every_shared_web_file_becomes_documents(shared: Path, memory: Path) -> None:
    pairs = look(shared / "data" / "web" / "*.parquet", memory, max_files_apart=90).shards["s"]
    assert len(pairs) > 20
    for (file,) in list(pairs.values())[:5]:
        documents = seed_documents(read_file(file.location), SOURCE, name="s", file=file.name)
        assert check_duplicates(documents, SOURCE, file=file.name).height == documents.height
