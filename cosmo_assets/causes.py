"""Which edits a partition that is not fresh goes back to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.graph import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cosmo_assets.pure.trace import Recipe, Trace
    from cosmo_assets.world import Difference, State, World

Whys = tuple[str, ...]
FORCED = "forced"  # made anew though nothing differs


class Causes:
    """For every partition that is not fresh: the edits it goes back to.

    An edit is known by what it changed outside, or in the settings or the code. Where the tables
    between were made already, their traces remember it.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._of: dict[str, dict[str, tuple[str, ...]]] = {}
        self._together: dict[str, tuple[str, ...]] = {}
        self._newest: dict[str, int] = {}

    def note(
        self,
        table: str,
        partition: str,
        state: State,
        recipe: Recipe | None,
        *,
        behind: Iterable[str] = (),
    ) -> Whys:
        """Work out and remember what a partition's state goes back to.

        Args:
            table: its table.
            partition: its name.
            state: how it stands; what is fresh is made because somebody forces it.
            recipe: what it would be made from.
            behind: inputs ``table[partition]`` that are held.
        """
        found: dict[str, None] = {}
        for name in sorted(behind):
            found |= dict.fromkeys(self._planned_behind(name))
        trace = self._world.traces(table).get(partition)
        for one in state.differences:
            found |= dict.fromkeys(self._behind(table, one, trace.number if trace else 0))
        if state.status == "missing" and recipe:
            found |= dict.fromkeys(self._new_behind(table, recipe))
        else_ = FORCED if state.status == "fresh" else state.note or "never made"
        return self._remember(table, partition, tuple(found) or (else_,))

    def _new_behind(self, table: str, recipe: Recipe) -> list[str]:
        """List what is behind a partition that was never made: whatever it reads that is new.

        That is planned, or was made since the table was last made, the newest first. Where nothing
        is, it is what was made last; what it reads by the hundred only where there is nothing else.
        """
        inputs = [name for name in recipe.inputs if _is_table(name)]
        found = [f"{name} is new" for name in recipe.inputs if not _is_table(name)]
        found += [why for name in inputs for why in self._planned_behind(name)]
        made = sorted(
            (trace for name in inputs if (trace := self._trace_of(name))),
            key=lambda trace: -trace.number,
        )
        since = self._last_made(table)
        found += [why for trace in made if trace.number > since for why in trace.because]
        if not found and made:
            found = list(made[0].because)
        return found or [why for name in inputs for why in self._made_behind(name, 0)]

    def _trace_of(self, name: str) -> Trace | None:
        """Return the trace of a single input."""
        parent, _, rest = name.partition("[")
        return self._world.traces(parent).get(rest.removesuffix("]"))

    def _last_made(self, table: str) -> int:
        """Return the number of a table's newest trace, as the table was at first sight."""
        if table not in self._newest:
            traces = self._world.traces(table).values()
            self._newest[table] = max((trace.number for trace in traces), default=0)
        return self._newest[table]

    def _made_behind(self, name: str, since: int) -> Whys:
        """List why an input was made; of many partitions, those made after trace ``since``."""
        parent, _, rest = name.partition("[")
        if not rest.startswith("*]"):
            trace = self._trace_of(name)
            return trace.because if trace else ()
        newer = [one for one in self._world.traces(parent).values() if one.number > since]
        value = rest.removeprefix("*].").removesuffix(" shards")
        holding = [
            trace for trace in newer if value in trace.facets
        ]  # else one that no longer does
        return tuple(dict.fromkeys(why for trace in holding or newer for why in trace.because))

    def note_gone(self, table: str, partition: str, by: str) -> Whys:
        """Remember that a partition's name is gone."""
        return self._remember(table, partition, (f"{by}: {partition} is gone",))

    def _remember(self, table: str, partition: str, roots: Whys) -> Whys:
        self._of.setdefault(table, {})[partition] = roots
        self._together.pop(table, None)
        return roots

    def _behind(self, table: str, one: Difference, since: int) -> Whys:
        if one.what == "code":
            return (f"code of {table} changed",)
        if one.what == "setting":
            return (f"{one.name} changed: {one.old} → {one.new}",)
        if _is_table(one.name):
            found = self._planned_behind(one.name) or self._made_behind(one.name, since)
            return found or (f"{one.name} changed",)
        if one.name.startswith("override "):
            return (f"{one.name} changed: {one.old} → {one.new}",)
        word = {"absent": "new"}.get(str(one.old), "changed")
        return (f"{one.name} {'is gone' if one.new == 'absent' else word}",)

    def _planned_behind(self, name: str) -> Whys:
        """List the edits behind an input ``table[partition]`` or ``table[*]…`` that is planned."""
        parent, _, rest = name.partition("[")
        if rest.startswith("*]"):
            return self._all(parent)
        return self._of.get(parent, {}).get(rest.removesuffix("]"), ())

    def _all(self, table: str) -> Whys:
        """List the edits behind any planned partition of a table, once each."""
        if table not in self._together:
            each = self._of.get(table, {}).values()
            self._together[table] = tuple(dict.fromkeys(why for roots in each for why in roots))
        return self._together[table]


def _is_table(name: str) -> bool:
    """Whether an input is another table's, not a file's or a person's word."""
    return name.partition("[")[0] in BY_NAME
