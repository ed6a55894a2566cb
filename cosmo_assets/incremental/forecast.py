"""What partitions cost before they are made: by what others of their table took, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.cost import Cost, Forecast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosmo_assets.incremental.plan import Planned
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table


def price(snapshot: Snapshot, table: Table, planned: Sequence[Planned]) -> Cost:
    """Forecast what partitions cost, from what earlier ones of the table cost.

    Tokens are told by answers to other prompts of the same partition, by earlier partitions, or
    else bounded by what the table says a call can take.
    """
    if not planned:
        return Cost()
    costs = [record.cost for record in snapshot.records(table.name).values()]
    count = len(planned)
    prices = snapshot.graph.accounts.prices(snapshot)
    seconds = Forecast.of_sum([cost.get("seconds", 0.0) for cost in costs], count)
    gpu_hours = Forecast.of_sum([cost.get("gpu_seconds", 0.0) / 3600 for cost in costs], count)
    money = gpu_hours * prices.gpu_hour
    if table.calls is None:
        return Cost(seconds, gpu_hours, money=money)
    calls = sum(entry.calls for entry in planned)
    read, written = (_tokens(snapshot, table, planned, at) for at in (0, 1))
    money += read * (prices.prompt_tokens_million / 1e6)
    money += written * (prices.completion_tokens_million / 1e6)
    return Cost(seconds, gpu_hours, calls, read, written, money)


def _tokens(snapshot: Snapshot, table: Table, planned: Sequence[Planned], at: int) -> Forecast:
    answered = [entry for entry in planned if entry.calls and entry.answered]
    known = (Forecast.of_sum([pair[at] for pair in each.answered], each.calls) for each in answered)
    calls = sum(entry.calls for entry in planned if not entry.answered)
    return sum(known, forecast_tokens(snapshot, table, calls)[at])


def forecast_tokens(snapshot: Snapshot, table: Table, calls: int) -> tuple[Forecast, Forecast]:
    """Forecast the tokens that calls read and write from those of earlier calls of the table.

    Without any, say how many they can be.
    """
    assert table.calls is not None
    forecasts: list[Forecast] = []
    most = table.calls.most_tokens
    records = snapshot.records(table.name).values()
    for at, fact in enumerate(table.calls.tokens):
        each = [record.facts[fact] for record in records if fact in record.facts]
        if any(each):
            forecasts.append(Forecast.of_sum(each, calls))
        else:
            bound = most(snapshot)[at] * calls
            forecasts.append(Forecast(bound, 0.0, bound))
    return forecasts[0], forecasts[1]
