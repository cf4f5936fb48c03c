"""Equal values, equal bytes; what would not come back is refused."""

from __future__ import annotations

import json
import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from storage.canonical import canonical

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


def test_the_form() -> None:
    assert (
        canonical({"b": [1, True, None], "a": "髙橋\u3000𠮟\n"}) == '{"a":"髙橋\u3000𠮟\\n","b":[1,true,null]}'.encode()
    )


@given(VALUES)
def test_it_comes_back(value: object) -> None:
    data = canonical(value)
    assert json.loads(data) == value
    assert canonical(json.loads(data)) == data


@given(st.dictionaries(st.text("abあ亜", max_size=3), st.integers(), max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert canonical(value) == canonical(dict(reversed(value.items())))


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        b"x",
        {1: 2},
        {None: 1},
        {"a": {2}},
        date(2026, 4, 1),
        "\ud800",
        {"\udfff": 1},
        object(),
    ],
)
def test_what_would_not_come_back_is_refused(value: object) -> None:
    with pytest.raises(BadInput) as caught:
        canonical([value])
    assert caught.value.code == "canonical.bad"


def test_bottomless_values_are_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(BadInput):
        canonical(value)
