"""Which checkpoints and scores are built on data that was retracted since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.table import part
from resources.storage.retractions import Retractions

if TYPE_CHECKING:
    from cosmo_assets.incremental.snapshot import World

MARKED = ("checkpoints", "eval_scores")


def read_marks(world: World, table: str) -> dict[str, list[str]]:
    """Return ``{partition: what it is built on and was retracted}``.

    A score is of the checkpoint that its trace names: equal scores of another checkpoint are one
    version with it, and no worse for that.
    """
    if table not in MARKED:
        return {}
    marks = Retractions(world.lake.catalog).marks("checkpoints")
    found: dict[str, list[str]] = {}
    for name, trace in world.traces(table).items() if marks else ():
        recipe = part(name, 0)
        version = trace.version
        if table == "eval_scores":
            version = trace.recipe.inputs.get(f"checkpoints[{recipe}]", "")
        if (recipe, version) in marks:
            found[name] = marks[recipe, version]
    return found


def tell_mark(marks: list[str]) -> str:
    """Say what a mark means, in a line."""
    return f"built on retracted data: {', '.join(marks)}"
