"""What a definition is written as, and which names it uses."""

from __future__ import annotations

import dataclasses

WHOLE = "*"  # of a module: all of it
EVERYTHING = f"={WHOLE}:{WHOLE}"  # code that names its modules or words at run time


@dataclasses.dataclass(slots=True)
class Written:
    """A definition as it was written down."""

    digest: str
    refs: list[str]  # "name.attribute" in its own module, "=module:name.attribute" elsewhere
    attributes: list[str]  # every name behind a dot
    libraries: list[str]  # modules that are not ours, by their first name
