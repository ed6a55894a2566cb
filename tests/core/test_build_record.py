from __future__ import annotations

import json
from typing import Any

import pytest

from cosmo_assets.core.build_record import BuildRecord, Provenance

GIVEN: dict[str, Any] = {
    "code": "1",
    "settings": {"seed": 1, "only": ["a", "b"], "rate": 0.5, "none": None},
    "inputs": {"prompts[a:b]": "v1", "templates[b]": "v2"},
}
RECIPE = Provenance(**GIVEN)


@pytest.mark.parametrize(
    "change",
    [
        {"code": "2"},
        {"settings": GIVEN["settings"] | {"seed": 2}},
        {"settings": GIVEN["settings"] | {"extra": 0}},
        {"settings": GIVEN["settings"] | {"only": ["b", "a"]}},
        {"settings": {}},
        {"inputs": GIVEN["inputs"] | {"prompts[a:b]": "v3"}},
        {"inputs": {"prompts[a:b]": "v1"}},
        {"settings": GIVEN["inputs"], "inputs": GIVEN["settings"]},
    ],
)
def test_each_part_of_a_recipe_counts_in_its_name(change: dict[str, Any]) -> None:
    assert Provenance(**GIVEN | change).fingerprint != RECIPE.fingerprint


def test_the_order_of_names_does_not_count() -> None:
    turned: dict[str, Any] = {
        key: dict(reversed(GIVEN[key].items())) for key in ("settings", "inputs")
    }
    assert Provenance(**GIVEN | turned).fingerprint == RECIPE.fingerprint


def test_a_setting_json_cannot_say_is_refused() -> None:
    with pytest.raises(TypeError):
        Provenance("1", {"only": {"a"}}, {})


def test_a_trace_read_back_is_the_trace_that_was_written() -> None:
    record = BuildRecord(
        provenance=Provenance("1", {"only": ("a", "b"), "depth": {1: "x"}}, {"t[p]": "v"}),
        version="abc",
        rows=3,
        facets={"web-soup": "f"},
        facts={"kinds": ["web"]},
        cost={"seconds": 0.25},
    )
    back = BuildRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert back == record
    assert back.provenance.fingerprint == record.provenance.fingerprint


def test_a_trace_written_before_a_field_was_added_is_read() -> None:
    tree = {"recipe": GIVEN, "version": "abc", "rows": 0}
    assert BuildRecord.from_json(tree) == BuildRecord(RECIPE, "abc", 0)
