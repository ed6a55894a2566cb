"""One look at what a step's generators do, and how it is told."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

from resources.generation.usage import EndpointStats, Stats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Standing = Literal["running", "done", "failed", "interrupted"]


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One look at a step's generators."""

    generation: str  # names one step's generation, in all its samples
    at: str  # UTC, ISO
    run: str  # Dagster's; empty where nobody said
    table: str
    branch: str
    model: str
    standing: Standing
    stats: Stats  # of all generators together; once it ended, tokens_s is the mean
    max_tokens: int | None  # budgets
    max_money: float | None
    trouble: str = ""  # what of the view itself does not work

    def line(self) -> str:
        """Put it in one line."""
        now = self.stats
        parts = [f"{now.done:,} of {now.total:,} prompts", f"{now.tokens_s:,.0f} tokens/s"]
        if self.standing == "running":
            parts.append(f"{_clock(now.eta_s)} left")
            parts += [f"{_in_flight(now):,} in flight"] if now.endpoints else []
        else:
            parts.append(f"{self.standing} after {_clock(now.elapsed_s)}")
        parts.append(f"{(now.prompt_tokens + now.completion_tokens) / 1e6:,.2f} M tokens")
        parts += [self.spent()] if now.money or self.max_money else []
        parts += [f"{now.failed:,} failed"] if now.failed else []
        if now.failures:
            parts.append(f"troubles: {told_failures(now.failures)}")
        return f"{self.table}: {', '.join(parts)}"

    def spent(self) -> str:
        """Say what was spent, and of how much."""
        most = "" if self.max_money is None else f" of {self.stats.currency}{self.max_money:,.2f}"
        return f"{self.stats.currency}{self.stats.money:,.2f}{most}"

    def eta(self) -> str:
        """Say how long it takes yet."""
        return _clock(self.stats.eta_s)

    def facts(self) -> dict[str, int | float | str]:
        """List its numbers by name; what it has several of as Markdown."""
        now = self.stats
        numbers: dict[str, int | float | str] = {
            "generation": self.standing,
            "model": self.model,
            "prompts done": now.done,
            "prompts asked": now.total,
            "prompts failed": now.failed,
            "prompt tokens": now.prompt_tokens,
            "completion tokens": now.completion_tokens,
            "tokens/s": round(now.tokens_s, 1),
            "seconds": round(now.elapsed_s, 1),
            "money": round(now.money, 4),
            "currency": now.currency,
        }
        if now.failures:
            rows = [f"| {name} | {count:,} |" for name, count in sorted(now.failures.items())]
            numbers["troubles"] = "\n".join(["| trouble | requests |", "|---|---|", *rows])
        if now.endpoints:
            rows = [f"| {e.url} | {e.state} | {e.limit} | {e.answered:,} |" for e in now.endpoints]
            head = "| endpoint | state | limit in flight | answered |"
            numbers["endpoints"] = "\n".join([head, "|---|---|---|---|", *rows])
        return numbers


def told_failures(failures: Mapping[str, int]) -> str:
    """List troubles with their counts, the most frequent first."""
    pairs = sorted(failures.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} {count:,}" for name, count in pairs)


def _clock(seconds: float | None) -> str:
    return "unknown time" if seconds is None else str(dt.timedelta(seconds=round(seconds)))


def _in_flight(stats: Stats) -> int:
    return sum(each.in_flight for each in stats.endpoints)


def numbers_of(stats: Stats) -> dict[str, float]:
    """List what trackers draw."""
    most = max(len(stats.endpoints), 1)
    return {
        "done": stats.done,
        "total": stats.total,
        "failed": stats.failed,
        "tokens_million": (stats.prompt_tokens + stats.completion_tokens) / 1e6,
        "completion_tokens_million": stats.completion_tokens / 1e6,
        "tokens_per_s": stats.tokens_s,
        "tokens_per_s_endpoint": stats.tokens_s / most,
        "in_flight": _in_flight(stats),
        "money": stats.money,
        "seconds": stats.elapsed_s,
        **{f"troubles/{name}": count for name, count in stats.failures.items()},
    }


def endpoints_of(all_: Sequence[Stats]) -> tuple[EndpointStats, ...]:
    """See one endpoint that several generators ask as one."""
    by_url: dict[str, list[EndpointStats]] = {}
    for stats in all_:
        for each in stats.endpoints:
            by_url.setdefault(public_url(each.url), []).append(each)
    return tuple(
        EndpointStats(
            url=url,
            state=max(reversed(same), key=lambda stats: stats.in_flight).state,
            in_flight=sum(stats.in_flight for stats in same),
            limit=sum(stats.limit for stats in same if stats.in_flight)
            or max(o.limit for o in same),
            answered=sum(stats.answered for stats in same),
        )
        for url, same in by_url.items()
    )


def public_url(url: str) -> str:
    """Leave a name and a password, or a key in a query, out of a URL."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
