"""What tokens and hours cost, what may be spent unasked, and what was spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.accounts import Accounts
from cosmo_assets.incremental.cost import Limit, Prices, Spent
from resources.generation import usage_log
from resources.generation.backends import no_generators

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosmo_assets.incremental.protocols import SnapshotView
    from resources.storage.catalog import Catalog


def _prices(snapshot: SnapshotView) -> Prices:
    how = snapshot.config.generator.how
    return Prices(
        how.currency,
        snapshot.config.how.price_gpu_hour,
        how.price_prompt_million,
        how.price_completion_million,
    )


def _limits(snapshot: SnapshotView) -> tuple[Limit, Limit]:
    edit, day = snapshot.config.how.budget_edit, snapshot.config.how.budget_day
    return (
        Limit("how.budget_edit", edit.tokens, edit.money),
        Limit("how.budget_day", day.tokens, day.money),
    )


def _spent_since(catalog: Catalog, at: str) -> Spent:
    return Spent(*usage_log.spent_since(catalog, at))


def _spent_by(
    catalog: Catalog, /, *, table: str, since: str, runs: Sequence[str] = (), process: str = ""
) -> Spent:
    spent = usage_log.spent_by(catalog, table=table, since=since, runs=runs, process=process)
    return Spent(*spent)


ACCOUNTS = Accounts(_prices, _limits, _spent_since, no_generators, _spent_by)
