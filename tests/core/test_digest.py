from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmo_assets.core.digest import digest, digest_bytes, share_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, derandomize=True)
@given(JSON, JSON)
def test_values_share_a_digest_only_if_they_are_equal(one: object, two: object) -> None:
    assert (digest(one) == digest(two)) == (repr_of(one) == repr_of(two))


def repr_of(value: object) -> object:
    """Tell True from 1, and forget the order of keys."""
    if isinstance(value, dict):
        return {name: repr_of(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [repr_of(inner) for inner in value]
    return (type(value), value)


def test_a_digest_is_16_hex_digits_and_the_same_in_every_process() -> None:
    code = "from cosmo_assets.core.digest import digest; print(digest({'b': [1, 'é'], 'a': None}))"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert runs == {digest({"a": None, "b": [1, "é"]})} == {"b7765118a96c1b50"}


@pytest.mark.parametrize("value", [{1, 2}, Path("x"), float("nan"), float("inf"), b"x", object()])
def test_what_json_cannot_say_has_no_digest(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        digest(value)


def test_half_a_surrogate_pair_has_a_digest() -> None:
    assert digest("\ud800") != digest("\ud801")


def test_bytes_are_named_by_their_content() -> None:
    assert digest_bytes(b"") == "e4a6a0577479b2b4"
    assert digest_bytes(b"a") != digest_bytes(b"b")


def test_a_share_lands_evenly_and_in_the_same_place_again() -> None:
    shares = [share_of("topic", str(i)) for i in range(2_000)]
    assert shares == [share_of("topic", str(i)) for i in range(2_000)]
    assert all(0 <= share < 1 for share in shares)
    tenths = [sum(i / 10 <= share < (i + 1) / 10 for share in shares) for i in range(10)]
    assert min(tenths) > 150
    assert max(tenths) < 250


def test_a_share_knows_where_one_part_ends() -> None:
    assert share_of("ab", "c") != share_of("a", "bc")
