"""What every section of the settings is: what decides bytes, and apart from it ``how``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

# Infinite numbers have no JSON, so no version could name them.
MODEL_CONFIG = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]


class How(BaseModel):
    """Settings that only change how a thing is made: never part of a version."""

    model_config = MODEL_CONFIG
    # Settings that stood here and decide bytes, with the place where they stand now.
    moved: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_moved(cls, values: Any) -> Any:
        for name, place in cls.moved.items():
            if isinstance(values, Mapping) and name in values:
                msg = f"{name} decides bytes, so it is no how: write it as {place}"
                raise ValueError(msg)
        return values


class Settings(BaseModel):
    """Settings that change what is made: part of every version they reach."""

    model_config = MODEL_CONFIG
    # Fields that older records do not name, with the values by which those were made.
    formerly_how: ClassVar[Mapping[str, Any]] = {}

    def key(self) -> dict[str, Any]:
        """List what can change bytes: every field but the ``How`` ones and the notes."""
        return {
            name: _plain(value)
            for name, value in self
            if not isinstance(value, How)
            and name != "note"
            and (name not in self.formerly_how or value != self.formerly_how[name])
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.key()
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return value
