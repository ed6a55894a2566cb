"""Write ``released_code.json``: the code there is now makes what records of releases hold.

``python -m cosmo_assets.pipeline.released_code``, after ``cosmo adopt --all`` has shown equal bytes
on a lake of the last release. ``--changed TABLE`` for one that makes other bytes now: its records
are stale, and rightly so.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from cosmo_assets.pipeline.code_boundary import RELEASED, project_codes
from cosmo_assets.pipeline.graph import BY_NAME, TABLES

if TYPE_CHECKING:
    from collections.abc import Collection


def release(changed: Collection[str]) -> dict[str, Any]:
    """Return what the file is to hold.

    Args:
        changed: tables whose records of releases before do not hold what is made now.
    """
    codes = project_codes()
    releases: dict[str, Any] = {}
    for table in TABLES:
        before = codes.released.get(table.name)
        code = codes.of(table)
        kept = before if before and table.name not in changed else None
        names = [*kept.names, kept.code.fingerprint] if kept else []
        tree = code.to_json()
        del tree["libraries"]  # nobody knows by which of them older records were made
        others = dict.fromkeys(name for name in names if name != code.fingerprint)
        releases[table.name] = {"names": list(others), **tree}
    return releases


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changed", action="append", choices=sorted(BY_NAME), default=[])
    results = release(parser.parse_args().changed)
    lines = [f"{json.dumps(name)}: {_write(item)}" for name, item in results.items()]
    RELEASED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _write(tree: dict[str, Any]) -> str:
    """Write a part a line, so that a difference can be read."""
    parts = ",\n  ".join(json.dumps(part) for part in tree["parts"])
    head = json.dumps({name: value for name, value in tree.items() if name != "parts"})
    return f'{head[:-1]}, "parts": [\n  {parts}]}}'


if __name__ == "__main__":
    main()
