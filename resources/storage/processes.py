"""Names of processes, and whether they are alive: by pid and birth, since pids are given anew."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


def this_process() -> str:
    """Name this process among all that this machine will ever run until it starts anew."""
    return _named(os.getpid())


@cache
def _named(pid: int) -> str:
    return f"{pid}.{_birth(pid)}"


def is_alive(process: str) -> bool:
    """Whether the process of that name still runs."""
    pid, birth = process.split(".")
    return _birth(int(pid)) == birth


def _birth(pid: int) -> str:
    """Return when a process was started, in the kernel's ticks: "" where there is none such.

    Where the kernel has no /proc every process looks alive, and drafts are left lying.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *rest = stat.rsplit(")", 1)[1].split()  # the name before it may hold anything
    return "" if state in "ZX" else rest[18]
