"""What steps really call is what the walk through their source says that they reach."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stand_ins import STAND_INS, copy_of, finish_project, look_at

from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.code_reach import Node
from cosmo_assets.incremental.source_tree import module_of
from cosmo_assets.pipeline.code_boundary import FOLDERS, ROOT, project_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from cosmo_assets.incremental.context import BuildContext
    from cosmo_assets.incremental.output import Output
    from cosmo_assets.incremental.table import Table

# What steps are handed, and call without a name of the source that leads there.
HANDED = {
    ("cosmo_assets.incremental.snapshot", "Snapshot"),
    ("cosmo_assets.incremental.context", "DeclaredContext"),
    ("cosmo_assets.incremental.declared", "Declared"),
    ("cosmo_assets.incremental.declared", "DeclaredSnapshot"),
    ("cosmo_assets.incremental.declared", "SettingsView"),
}
OURS = tuple(f"{ROOT / folder}/" for folder in FOLDERS)


def _node(code: CodeType) -> Node | None:
    """Return the definition that a piece of code stands in; None: it is none of ours."""
    name = code.co_qualname.partition(".")[0]
    if not code.co_filename.startswith(OURS) or name.startswith("<"):
        return None
    return Node(module_of(Path(code.co_filename).relative_to(ROOT).as_posix()), name)


class Calls:
    """Sees which definition calls which, in all threads."""

    def __init__(self) -> None:
        self.seen: set[tuple[Node, Node]] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or frame.f_back is None:
            return
        callee, caller = _node(frame.f_code), _node(frame.f_back.f_code)
        if callee and caller:
            self.seen.add((caller, callee))

    def watch(self, work: Callable[[], Any]) -> Any:
        """Do a piece of work in sight."""
        sys.setprofile(self)
        threading.setprofile(self)
        try:
            return work()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def over(self, table: Table) -> Table:
        """Return a table whose step is watched."""

        def work(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
            steps = self.watch(lambda: table.build(context))
            while (item := self.watch(lambda: next(steps, None))) is not None:
                partition, thunk = item
                yield partition, lambda thunk=thunk: self.watch(thunk)

        return dataclasses.replace(table, build=work)


@pytest.fixture(scope="module")
def grounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the configuration of a finished project that has every table."""
    return finish_project(tmp_path_factory.mktemp("grounded"), grounded=True)


@pytest.mark.parametrize("table", STAND_INS, ids=lambda table: table.name)
def test_a_step_calls_nothing_that_its_code_does_not_count(
    table: Table, grounded: Path, tmp_path: Path
) -> None:
    codes = project_codes()
    reached = codes.reached(table)
    snapshot = look_at(copy_of(grounded, tmp_path))
    shutil.rmtree(snapshot.lake.root / "ledger")  # so that a generator is asked
    calls = Calls()
    watched = calls.over(table)
    partitions = snapshot.partitions(table.by)
    done = [outcome.good for outcome in make(watched, partitions, snapshot, force=True)]
    assert partitions
    assert all(done)
    pairs = {
        (caller, callee)
        for caller, callee in calls.seen
        if caller in reached.nodes
        and callee not in reached.nodes
        and callee not in HANDED
        and codes.reach.plumbing_of(callee) is None
        and Node(callee.module, callee.name)
        not in {Node(node.module, node.name.partition(".")[0]) for node in reached.nodes}
    }
    assert not pairs
    assert {callee for _, callee in calls.seen}  # it was seen at all
