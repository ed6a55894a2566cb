"""Python source as texts by path, and what was found in each file, remembered by its bytes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from cosmo_assets.incremental.module_facts import ModuleFacts, read_module

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from cosmo_assets.incremental.code_rules import Rules

INIT = "__init__.py"


class SourceTree:
    """Files by path, ``package/module.py``. Nothing of them is imported.

    Args:
        texts: path → source.
        memory: a file that keeps what was found; it may be deleted at any time. None: nothing is
            kept.
    """

    def __init__(
        self,
        texts: Mapping[str, bytes],
        *,
        memory: Path | None = None,
        facts: Mapping[str, ModuleFacts] | None = None,
    ) -> None:
        self._texts = dict(texts)
        self._memory = memory
        self._facts = dict(facts or {})

    @classmethod
    def read(cls, root: Path, folders: Iterable[str], *, memory: Path | None = None) -> SourceTree:
        """Read all files in some folders under ``root``."""
        paths = sorted(path for folder in folders for path in (root / folder).rglob("*.py"))
        texts = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
        return cls(texts, memory=memory)

    def edited(self, changes: Mapping[str, str | None]) -> SourceTree:
        """Return the tree with files replaced, added, or (None) taken out."""
        new = {path: text.encode() for path, text in changes.items() if text is not None}
        kept = {path: text for path, text in self._texts.items() if path not in changes}
        edited = {module_of(path) for path in changes}
        facts = {module: fact for module, fact in self._facts.items() if module not in edited}
        return SourceTree(kept | new, facts=facts)

    def add(self, module: str, text: bytes, rules: Rules) -> None:
        """Add a file that lies elsewhere, under its module's name."""
        path = f"{module.replace('.', '/')}.py"
        self._texts[path] = text
        self.paths[module] = path
        self._facts[module] = read_module(text.decode(), module, rules)

    def text(self, path: str) -> str:
        """Return a file's source."""
        return self._texts[path].decode()

    @functools.cached_property
    def paths(self) -> dict[str, str]:
        """Module → path."""
        return {module_of(path): path for path in sorted(self._texts)}

    def facts(self, module: str) -> ModuleFacts:
        """Return what a module holds. Raises KeyError where ``load`` was not called before."""
        return self._facts[module]

    def load(self, rules: Rules) -> None:
        """Find out what all modules hold."""
        missing = [module for module in self.paths if module not in self._facts]
        if not missing:
            return
        known = self._remembered()
        salt = f"{sys.version_info[:2]}{rules.packages}{rules.parts}{sorted(rules.told)}"
        trees: dict[str, Any] = {}
        fresh = False
        for module in missing:
            path = self.paths[module]
            name = hashlib.blake2b(
                f"{salt}|{path}|".encode() + self._texts[path], digest_size=12
            ).hexdigest()
            tree = known.get(name)
            if tree is None:
                fresh = True
                package = path.endswith(INIT)
                read = read_module(self.text(path), module, rules, package=package)
                tree = dataclasses.asdict(read)
            trees[name] = tree
            self._facts[module] = ModuleFacts.from_json(tree)
        if fresh and self._memory:
            _keep(self._memory, json.dumps(trees))

    def _remembered(self) -> dict[str, Any]:
        """Read what is kept; a file that is cut or of another kind says nothing."""
        if self._memory is None or not self._memory.is_file():
            return {}
        try:
            remembered = json.loads(self._memory.read_bytes())
        except ValueError:  # it will be written anew
            return {}
        return remembered if isinstance(remembered, dict) else {}


def module_of(path: str) -> str:
    """Return the dotted name of a file's module."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _keep(path: Path, text: str) -> None:
    """Replace a file, as Python does its own caches: where nobody may write, nothing is kept."""
    if not os.access(path.parent, os.W_OK):
        return
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)
