"""The world as a plan will leave it, as far as that can be known before anything runs.

What comes back as it once was is known to the byte, and so is what a template's file makes: the
cells they bring, and whether what reads them has anything to do. All else that is made anew has a
version that nobody knows yet, but whether a topic is kept can be told where its label stands.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from cosmo_assets.algorithms.topics.labelling import NO_OVERRIDE
from cosmo_assets.core.build_record import Trace
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.core.row_digest import rows_digest
from cosmo_assets.incremental.snapshot import CUTS, World, group_of
from cosmo_assets.incremental.table import part
from cosmo_assets.pipeline.prompts.tables import (
    CELLS,
    PROMPT_TEMPLATES,
    most_prompts,
    read_template,
    template_facts,
    template_rows,
)
from cosmo_assets.pipeline.topics.labels import is_kept, kinds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cosmo_assets.core.build_record import Recipe
    from cosmo_assets.incremental.table import Dimension, Table

# Tables whose rows say which topics and cells there are.
CUTTING = ("topic_assignments", "topics", "prompt_templates")
UNKNOWN = "planned "  # begins the version of what is made anew
DRAWN_BY = ("kinds", "weight")  # of a template: they decide which documents a cell holds


class Supposed(World):
    """The world as it would be if what is planned had been made.

    A child whose recipe changes under a version that nobody knows may have to run; early cut-off
    can only take partitions off the plan, never add any of those that exist now. Where documents
    may come to other topics, what reads those may run as well.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world.config, world.lake, world.all_outside, retracted=world.retracted)
        self.world_now = world
        self.anew: dict[str, set[str]] = {}  # table → partitions to be made
        self.read_ahead: set[str] = set()  # styles whose template is taken from its file
        self._touched: set[str] = set()  # tables of which anything is planned
        self._recut = False  # whether topics and cells may be others
        self._named: dict[Dimension, tuple[str, ...]] = {}
        self._decided: set[str] = set()  # topics of which is known what will be said of them
        self._regrouped: set[str] = set()  # groups whose topics may gain documents
        self._unnamed: set[str] = set()  # groups that may gain cells nobody can name

    def touches(self, table: Table) -> bool:
        """Whether anything that a table reads may be other than it is now."""
        return self._recut or any(parent.table in self._touched for parent in table.parents)

    def suppose(
        self, table: str, made: Iterable[str], restored: Mapping[str, Trace] | None = None
    ) -> None:
        """Take it that partitions are made anew, and that others come back as they once were."""
        names = set(made)
        if table == "prompt_templates":
            foreseen = _keep_found(self._foresee_template, names)
            names -= foreseen.keys()
            self.read_ahead |= foreseen.keys()
        else:
            foreseen = _keep_found(self._foresee_topic, names) if table == "topics" else {}
            self._decided |= foreseen.keys()
        known = {**(restored or {}), **foreseen}
        self.anew.setdefault(table, set()).update(names)
        if known:
            self._traces[table] = {**self.traces(table), **known}
        if not names and not known:
            return
        self._touched.add(table)
        self._manifests.clear()
        self._facets.clear()
        if table in CUTTING:
            self._recut = True
            self._unnamed |= self._groups_that_may_gain(table, names, known)
            self._named.clear()
            self._partitions.clear()
            self._groups.clear()

    def traces(self, table: str) -> dict[str, Trace]:
        """Every partition's trace: the one it will have, where that is known."""
        return self._traces[table] if table in self._traces else self.world_now.traces(table)

    def named(self, by: Dimension) -> tuple[str, ...]:
        """List the names along a cut that there will be or may be, as far as they have a name."""
        if not self._recut:
            return self.world_now.partitions(by)
        if by not in self._named:
            found = CUTS[by](self)
            if by == "topics" and self._regrouped:
                back = {t for t in self.traces("topics") if group_of(t) in self._regrouped}
                found = sorted({*found, *back})
            self._named[by] = tuple(found)
        return self._named[by]

    def unnamed(self, by: Dimension) -> tuple[str, ...]:
        """Return a name for all cells of a group that nobody can name yet."""
        cellwise = by in {"cells", "grounded_cells"}
        return tuple(f"{group}-?:?" for group in sorted(self._unnamed)) if cellwise else ()

    def partitions(self, by: Dimension) -> tuple[str, ...]:
        """List the names along a cut, and a name for what has none yet."""
        if by not in self._partitions:
            more = self.unnamed(by) if by == "cells" else ()
            self._partitions[by] = (*self.named(by), *more)
        return self._partitions[by]

    def settings(self, table: Table, partition: str) -> dict[str, Any]:
        """Return the byte-changing settings of a partition."""
        return self.world_now.settings(table, partition)

    def version(self, table: str, partition: str) -> str | None:
        """Return a partition's version, a made-up one where it is made anew."""
        if partition in self.anew.get(table, ()):
            return f"{UNKNOWN}{table}[{partition}]"
        return super().version(table, partition)

    def versions(self, table: str, partitions: Iterable[str]) -> dict[str, str]:
        """Return the versions of those of ``partitions`` that exist or are made anew."""
        found = {name: self.version(table, name) for name in partitions}
        return {name: version for name, version in found.items() if version}

    def version_of_facets(self, table: str, partition: str) -> str | None:
        """Return the version of a partition's facets, a made-up one where it is made anew."""
        if partition in self.anew.get(table, ()):
            return self.version(table, partition)
        return super().version_of_facets(table, partition)

    def facet(self, table: str, value: str) -> dict[str, str]:
        """Return the versions of a facet, made-up ones where its partition is made anew.

        One of the value's group that does not have the value may come to.
        """
        anew = self.anew.get(table, set())
        found = {
            name: f"{UNKNOWN}{name}" if name in anew else version
            for name, version in super().facet(table, value).items()
        }
        if group_of(value) in self._regrouped:
            found["?"] = UNKNOWN  # one for all of them: there may be many
        return found

    def _groups_that_may_gain(
        self, table: str, names: set[str], known: Mapping[str, Trace]
    ) -> set[str]:
        """Name the groups in which these partitions may bring cells that nobody can name."""
        if table == "topic_assignments":
            sources = self.config.sources
            groups = {sources[part(shard, 0)].group for shard in names}
            self._regrouped |= groups
            return groups
        if table == "topics":
            return {group_of(topic) for topic in names - known.keys()}
        return set()  # which cells a template leads to is known, or it cannot be read

    def _foresee_template(self, style: str) -> Trace | None:
        """Read a template's file: what is made of it is known, and where a note ends the matter.

        One that cannot be read fails in the run, which tells why.
        """
        recipe = self.recipe(PROMPT_TEMPLATES, style)
        with contextlib.suppress(BadInputError):
            template = read_template(self, style)
            assert recipe is not None
            version = rows_digest(template_rows(template), key=PROMPT_TEMPLATES.key)
            return Trace(recipe, version, rows=1, facts=template_facts(template))
        return None

    def _foresee_topic(self, topic: str) -> Trace | None:
        """Decide on a topic whose label and documents stay: whether it is kept, not its version."""
        label = self.traces("topic_labels").get(topic)
        trace = self.traces("topics").get(topic)
        if self._is_open(topic) or trace is None or label is None or "score" not in label.facts:
            return None
        override = self.outside.overrides.get(topic, NO_OVERRIDE)
        facts = trace.facts | {
            "keep": is_kept(label.facts["score"], override, least=self.config.labelling.min_score),
            "label": override.label or label.facts["label"],
            "kinds": kinds_of(self, topic),
        }
        return dataclasses.replace(trace, facts=facts)

    def _is_open(self, topic: str) -> bool:
        """Whether a topic is to be labelled anew, or may get other documents."""
        return topic in self.anew.get("topic_labels", ()) or group_of(topic) in self._regrouped

    def label_of(self, topic: str) -> str | None:
        """Return what prompts will call a topic; None where nobody knows, or of which texts."""
        undecided = topic in self.anew.get("topics", set()) - self._decided
        if undecided or self._is_open(topic):
            return None
        if self.anew.get("seed_documents", set()) & self.facet("topic_assignments", topic).keys():
            return None
        return self.traces("topics")[topic].facts["label"]

    def known(self, table: str, partitions: Iterable[str]) -> list[str]:
        """List those of ``partitions`` that there are or were, and are not made anew."""
        anew = self.anew.get(table, set())
        traces = self.traces(table)
        return [name for name in partitions if name in traces and name not in anew]

    def count_prompts(self, cells: Iterable[str]) -> dict[str, int]:
        """Say how many prompts cells will hold, at most where their documents are drawn anew."""
        written = self.traces("prompts")
        found: dict[str, int] = {}
        drawn: list[str] = []
        for cell in cells:
            if cell in written and not self.is_redrawn(cell):
                found[cell] = written[cell].rows
            else:
                drawn.append(cell)
        documents = self._documents({part(cell, 0) for cell in drawn})
        return found | {cell: self._most_prompts(cell, documents) for cell in drawn}

    def is_redrawn(self, cell: str) -> bool:
        """Whether a cell's documents may be others; the words of its template draw none."""
        if cell not in self.anew.get("cells", ()):
            return False
        trace = self.world_now.traces("cells").get(cell)
        recipe = self.recipe(CELLS, cell)
        if trace is None or recipe is None or trace.recipe.settings != recipe.settings:
            return True
        name = f"topic_assignments[*].{part(cell, 0)}"
        if trace.recipe.inputs.get(name) != recipe.inputs[name]:
            return True
        style = part(cell, 1)
        old = self.world_now.traces("prompt_templates").get(style)
        new = self.traces("prompt_templates").get(style)
        if not old or not new:
            return True
        return any(old.facts.get(name) != new.facts[name] for name in DRAWN_BY)

    def _documents(self, topics: set[str]) -> dict[str, int]:
        """Count the documents of topics, as they were when the topics were made."""
        versions = self.world_now.versions("topics", sorted(topics))
        if not versions:
            return {}
        rows = self.lake.scan("topics", versions).select("topic_id", "documents").collect()
        return dict(rows.iter_rows())

    def _most_prompts(self, cell: str, documents: Mapping[str, int]) -> int:
        most = self.config.styles.max_prompts
        template = self.traces("prompt_templates").get(part(cell, 1))
        count = documents.get(part(cell, 0), most or 0)
        weight = template.facts.get("weight", 1.0) if template else 1.0
        return min(count, most_prompts(weight, most or count))


def _keep_found(foresee: Callable[[str], Trace | None], names: set[str]) -> dict[str, Trace]:
    return {name: trace for name in sorted(names) if (trace := foresee(name))}


def is_known(recipe: Recipe) -> bool:
    """Whether all versions of single inputs are known. Those of many at once may hide others."""
    return not any(map(is_made_up, recipe.inputs.values()))


def is_made_up(version: object) -> bool:
    """Whether a version stands for one that nobody knows yet."""
    return str(version).startswith(UNKNOWN)
