"""Any edits, runs, kills and reverts, in any order: a run makes what it must, and it comes out so.

After each run, against an oracle that knows neither recipes nor versions (oracle.py):

- what was made is what was never made from these contents before; what was restored is the rest
  of what changed; what a killed run had published is whole, and is not made again;
- after a run that came to its end the lake holds what a rebuild from nothing holds, byte for
  byte, and all of it is fresh.

``COSMO_SEQUENCES=2000 pytest tests/incremental/test_any_edits.py -k histor`` takes as many others,
at random.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import states
from histories import Act, History, draw, draw_with_code
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from oracle import Oracle
from stand_ins import STAND_INS
from states import Place, close_catalog, first_state, quicken, run

from cosmo_assets.core.build_record import BuildRecord
from cosmo_assets.core.digest import digest
from cosmo_assets.incremental import build as batch
from cosmo_assets.incremental.code_fingerprint import Codes
from cosmo_assets.incremental.table import Parent
from resources.storage.lake import Lake

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cosmo_assets.core.build_record import Provenance
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table
    from resources.storage.lake import Draft

SEQUENCES = int(os.environ.get("COSMO_SEQUENCES", "0"))
CI_SEQUENCES = 200


class Bench(NamedTuple):
    """What histories are played on."""

    oracle: Oracle
    root: Path
    told: Counter[str]

    def play(self, acts: list[Act], tables: Sequence[Table] = STAND_INS, **given: int) -> None:
        """Play a history on a finished lake."""
        first = self.root / "first" / "lake"
        history = History(self.oracle, self.root / "play", first, tables, **given)
        history.play(acts)
        self.told.update(history.told)

    def shorten(self, acts: list[Act]) -> list[Act]:
        """Leave out what is not needed to fail."""
        for at in reversed(range(len(acts))):
            fewer = acts[:at] + acts[at + 1 :]
            try:
                self.play(fewer, rebuilt=1)
            except AssertionError:
                acts = fewer
        return acts


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """Finish the first state, on a disk in memory where there is one."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch, lambda _prompt: None, tokenizers=root / "tokenizers", lasting=True)
        for name in ("oracle", "first"):
            (root / name).mkdir()
        place = Place(root / "first")
        place.put(first_state())
        run(place)
        close_catalog(place.lake / "catalog.sqlite")
        yield Bench(Oracle(root / "oracle"), root, Counter())
    shutil.rmtree(root)


def test_in_any_history_a_run_makes_what_it_must_and_it_comes_out_so(bench: Bench) -> None:
    @settings(
        max_examples=SEQUENCES or CI_SEQUENCES,
        derandomize=not SEQUENCES,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # to shrink a seed is no use
    )
    @given(chance=st.randoms(use_true_random=True))
    def check(chance: random.Random) -> None:
        acts = draw(chance)
        try:
            bench.play(acts)
        except AssertionError as error:
            error.add_note(f"the shortest history that fails so: {bench.shorten(acts)}")
            raise

    bench.told.clear()
    check()
    counts = bench.told  # a bit of everything, or the histories are not worth the name
    assert counts["runs"] > CI_SEQUENCES, counts
    assert min(counts["kills"], counts["restored"], counts["made"], counts["rebuilt"]) > 50, counts
    print(f"{dict(counts)} in {SEQUENCES or CI_SEQUENCES} histories")  # noqa: T201 - for pytest -s


def test_the_same_where_code_is_edited_too(bench: Bench) -> None:
    @settings(
        max_examples=SEQUENCES or CI_SEQUENCES // 4,
        derandomize=not SEQUENCES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
    )
    @given(chance=st.randoms(use_true_random=True))
    def check(chance: random.Random) -> None:
        acts = draw_with_code(chance)
        try:
            bench.play(acts)
        except AssertionError as error:
            error.add_note(f"the shortest history that fails so: {bench.shorten(acts)}")
            raise

    bench.told.clear()
    check()
    assert min(bench.told["restored"], bench.told["made"]) > CI_SEQUENCES, bench.told


def _without(name: str, part: str, kept: Callable[[Any], Any]) -> tuple[Table, ...]:
    """Return the tables, one of them with less."""
    return tuple(
        dataclasses.replace(table, **{part: kept(getattr(table, part))})
        if table.name == name
        else table
        for table in STAND_INS
    )


def _by_shard(snapshot: Snapshot, topic: str) -> dict[str, str]:
    return {"members": digest(snapshot.facet("topic_assignments", topic))}


def _whole(snapshot: Snapshot, cell: str) -> dict[str, str]:
    return {"grounding": str(snapshot.version("groundings", cell))}


def _same_digest(*_: object) -> dict[str, str]:
    return {"curated-algebra": "x", "curated-botany": "x", "notes-water": "x"}


def _newest(
    self: Lake, table: str, provenances: Mapping[str, Provenance]
) -> dict[str, BuildRecord]:
    """Take a partition's newest trace for one of any recipe."""
    newests: dict[str, BuildRecord] = {}
    with self.catalog.transaction() as db:
        for name in provenances:
            query = "select body from traces where tbl = ? and partition = ? order by id desc"
            for (body,) in db.execute(query, (table, name)).fetchmany(1):
                newests[name] = BuildRecord.from_json(json.loads(body))
    return newests


def _point_first(self: Lake, table: str, drafts: list[Draft]) -> None:
    """Say what is current before it is there."""
    self.set_current(table, {partition: record for _, partition, record in drafts})
    publish(self, table, drafts)


publish = Lake.publish
COUNT = itertools.count()


class Fault(NamedTuple):
    """A fault of the machinery, and a history that it shows in."""

    acts: list[Act]
    tables: tuple[Table, ...] = STAND_INS
    patches: tuple[tuple[Any, str, Any], ...] = ()


FAULTS = {
    "a setting is no part of a recipe": Fault(
        [Act("edit_setting", (2, 1))],
        _without("documents", "settings", lambda _: lambda *_: {}),
    ),
    "a file is no part of a recipe": Fault(
        [Act("reword_template")],
        _without("prompt_templates", "outside", lambda _: lambda _, style: {"file": style}),
    ),
    "a parent is no part of a recipe": Fault(
        [Act("edit_setting", (4, 1))],
        _without("token_shards", "parents", lambda parents: parents[:2]),
    ),
    "code is no part of a recipe": Fault(
        [Act("edit_code")],
        patches=((Codes, "is_same", lambda *_: True),),
    ),
    "a corpus is no part of a recipe": Fault(
        [Act("edit_corpus_file", (0, 1))],
        _without("groundings", "parents", lambda parents: parents[:1]),
    ),
    "prompts read how well a passage fits": Fault(
        [Act("edit_setting", (6, 1))],
        _without("prompts", "parents", lambda parents: (parents[0], Parent("groundings", _whole))),
    ),
    "a recipe holds more than is read": Fault(
        [Act("note_on_recipe")],
        _without("documents", "settings", lambda _: lambda config, _: config.model_dump()),
    ),
    "a label is made anew where its documents only lie in another file": Fault(
        [Act("rename_source_file", (2,))],
        _without("topic_labels", "parents", lambda _: (Parent("topic_assignments", _by_shard),)),
    ),
    "all of a shard's topics have one digest": Fault(
        [Act("add_row", (1, 0, 1))], patches=((batch, "facets_of", _same_digest),)
    ),
    "a trace of another recipe is restored": Fault(
        [Act("edit_setting"), Act("run"), Act("edit_setting", (0, 1))],
        patches=((Lake, "earlier", _newest),),
    ),
    "nothing is restored": Fault(
        [Act("edit_setting"), Act("run"), Act("revert")],
        patches=((Lake, "earlier", lambda *_: {}),),
    ),
    "orphans stay current": Fault(
        [Act("remove_template")], patches=((states, "drop_orphans", lambda *_: 0),)
    ),
    "a trace is stored before its rows are there": Fault(
        [Act("edit_row", (0, 0, 1)), *[Act("kill", (n, m, 0)) for n in range(2) for m in range(8)]],
        patches=((Lake, "publish", _point_first),),
    ),
    "a version is not of the content": Fault(
        [Act("reorder_rows")],
        patches=((batch, "rows_digest", lambda *_, key: digest([next(COUNT), key])),),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_oracle_notices_that(name: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = FAULTS[name]
    bench.play(fault.acts)  # without the fault; and the oracle has its answers
    for owner, part, instead in fault.patches:
        monkeypatch.setattr(owner, part, instead)
    with pytest.raises(AssertionError):
        bench.play(fault.acts, fault.tables)
