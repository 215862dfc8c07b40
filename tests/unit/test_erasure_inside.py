from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidemill.deciding.again import Change, compared
from tidemill.erasure.inside import TOMBSTONE, opened_inside, sealed_inside
from tidemill.erasure.seal import KEY_BYTES, mark_of, opened, subjects_of

KEYS = {"ada": bytes(range(KEY_BYTES)), "bob": bytes(reversed(range(KEY_BYTES))), "": b"x" * KEY_BYTES}
ERASED = {**KEYS, "ada": None}
PATHS = [("name",), ("address", "street")]
HELD = "Ada Lovelace"

plain = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
addresses = values | st.fixed_dictionaries({}, optional={"street": values, "city": values})
people = st.fixed_dictionaries({}, optional={"name": values, "address": addresses, "id": values})


def seal(text: str, subject: str = "ada", keys: Any = KEYS) -> str:
    (found,) = sealed_inside([text], [subject], "data", PATHS, keys)
    return found


def open_(text: str, keys: Any = KEYS) -> str | None:
    (found,) = opened_inside([text], PATHS, keys)
    return found


def marked(value: Any) -> list[Any]:
    """What stands in the marked places of a value, by a second reading of what they are."""
    found = []
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict):
            found += [each[name] for name in ("name",) if name in each]
            for at in each["address"] if isinstance(each.get("address"), list) else [each.get("address")]:
                found += [at.get("street")] if isinstance(at, dict) else []
    return found


@given(people | st.lists(people, max_size=2))
@example({"name": [[]]})
@example({"name": []})
@example({"address": [], "name": {}})
def test_what_is_sealed_inside_opens_as_it_was_and_nothing_else_changes(value: Any):
    text = json.dumps(value)

    hidden = seal(text)

    assert json.loads(open_(hidden) or "") == value
    assert seal(text) == hidden
    for each in marked(json.loads(hidden)):
        for one in each if isinstance(each, list) else [each]:
            assert one is None or one.startswith(mark_of("ada"))
    both = value, json.loads(hidden)
    for each in both:
        for person in each if isinstance(each, list) else [each]:
            person.pop("name", None)
            person.pop("address", None)
    assert both[0] == both[1]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ada Lovelace", "n": 1.10, "great": 12345678901234567890.123, "e": 1e400}',
        '{"name": "Ada Lovelace", "n": 1.5, "half": "\\ud800", "none": null, "yes": true}',
        '{"address": {"street": "Ada Lovelace", "city": "London"}}',
        '{"name": {"who": "Ada Lovelace", "n": 1.10}, "m": 2.5}',
        '{"address": [{"street": "Ada Lovelace"}, {"street": null}, "Ada Lovelace"]}',
        '{"address": "Ada Lovelace"}',
        '{"name": {"first": "Ada Lovelace"}}',
        '{"name": ["Ada Lovelace"]}',
        '{"n\\u0061me": "Ada Lovelace"}',
        '[{"name": "Ada Lovelace"}]',
    ],
)
def test_whatever_stands_in_a_marked_place_is_sealed(text: str):
    hidden = seal(text)

    assert HELD not in hidden
    assert subjects_of([hidden]) == {"ada"}
    compact = text.replace(": ", ":").replace(", ", ",").replace("\\u0061", "a")
    assert open_(hidden) == compact
    assert HELD not in open_(hidden, ERASED)
    assert HELD not in open_(seal(text, keys=ERASED))


@pytest.mark.parametrize(
    "text", ["Ada Lovelace", '"Ada Lovelace"', '{"name": "Ada Lovelace"', '["Ada Lovelace"]', '{"a":' * 9000]
)
def test_what_is_no_object_is_sealed_as_a_whole(text: str):
    hidden = seal(text)

    assert hidden.startswith(mark_of("ada"))
    assert open_(hidden) == text
    assert opened([hidden], KEYS) == [text]
    assert open_(hidden, ERASED) is None


def test_of_a_key_that_stands_twice_nothing_stays():
    assert HELD not in seal('{"name": "Ada Lovelace", "name": null}')
    assert HELD not in seal('{"address": {"street": "Ada Lovelace"}, "address": {}}')


def test_where_nothing_is_marked_the_text_stays_as_it_was_written():
    for text in ('{ "id": 1.0 }', '{"address": null}', "[ ]", '{"address": {"city":   "Ely"}}'):
        assert seal(text) == text
        assert open_(text) == text


def test_what_was_erased_opens_as_a_text_that_says_so():
    text = '{"name": "Ada", "address": {"street": 7}, "id": 1}'

    for hidden in (seal(text), seal(text, keys=ERASED)):
        assert json.loads(open_(hidden, ERASED)) == {
            "name": TOMBSTONE,
            "address": {"street": TOMBSTONE},
            "id": 1,
        }
    assert json.loads(open_(seal(text, "bob"), ERASED)) == json.loads(text)


def test_what_is_sealed_below_an_opened_place_opens_too():
    (hidden,) = sealed_inside(
        ['{"address": {"street": "x", "city": "y"}}'], ["ada"], "data", [("address", "street")], KEYS
    )

    assert opened_inside([hidden], [("address",)], KEYS) == ['{"address":{"street":"x","city":"y"}}']


def test_values_that_are_no_texts_are_json_where_a_column_of_them_is_opened():
    name = json.loads(seal('{"name": {"first": 1.50}}'))["name"]

    assert opened([name], KEYS) == ['{"first":1.50}']


def test_that_a_person_was_erased_is_no_other_decision():
    def outcome(keys: Any, subject: str = "ada", name: str = "x") -> list[Any]:
        return [{"type": "t", "data": json.loads(seal(json.dumps({"name": name, "n": 1}), subject, keys))}]

    assert compared(outcome(KEYS), outcome(ERASED)) is Change.SAME
    assert compared(outcome(KEYS), outcome(KEYS, name="y")) is Change.OTHER_EVENTS
    assert compared(outcome(KEYS), outcome(ERASED, "bob")) is Change.OTHER_EVENTS


def test_a_text_that_only_looks_sealed_is_sealed_itself_and_opens_as_it_was():
    """A user may write anything: opened with what it stands in, it would be taken for a sealed text that is torn."""
    keys = {"ada": bytes(range(64))}
    forged = mark_of("eve") + "Y2l0eQ==:AAAA"
    text = json.dumps({"name": forged, "address": {"street": "x", "city": "sealed:1:x", "all": [forged, 7]}})
    (kept,) = sealed_inside([text], ["ada"], "data", [("name",), ("address", "street")], keys)
    assert kept is not None
    (found,) = opened_inside([kept], [("name",), ("address",)], keys)
    assert found is not None
    assert json.loads(found) == json.loads(text)
    (gone,) = opened_inside([kept], [("name",), ("address",)], {"ada": None})
    assert gone is not None
    assert json.loads(gone)["address"] == {"street": TOMBSTONE, "city": TOMBSTONE, "all": [TOMBSTONE, 7]}
