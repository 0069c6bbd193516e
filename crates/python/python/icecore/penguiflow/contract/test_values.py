"""Free-form values: nothing is raised because of one, and what JSON can carry comes back equal."""

from typing import Any

import pytest

from ._carriers import CARRIERS, Carrier
from ._groups import judges, ours, require
from ._making import fresh, steering
from ._ours import REFERENCE_RAISES
from ._penguiflow import sanitize_steering_event
from ._values import DEEP, EXACT, FORMS, HOSTILE, PLAIN, holds_bytes, same

carriers = pytest.mark.parametrize("carrier", CARRIERS, ids=[carrier.name for carrier in CARRIERS])


def pairs(names: list[str]) -> list[Any]:
    """Each value in each place, marked where the reference raises."""
    found = []
    for carrier in CARRIERS:
        for name in names:
            reason = REFERENCE_RAISES.get((carrier.name, name))
            marks = [ours(reason)] if reason else []
            found.append(pytest.param(carrier, name, id=f"{carrier.name}-{name}", marks=marks))
    return found


@judges("values")
@carriers
async def test_what_json_can_carry_comes_back_equal(state_store: Any, carrier: Carrier) -> None:
    require(state_store, carrier.capability)

    changed = [name for name, value in PLAIN.items() if not same(await carrier.carry(state_store, value), value)]

    assert changed == []


@judges("values")
@pytest.mark.parametrize(("carrier", "name"), pairs(list(DEEP)))
async def test_what_is_nested_500_deep_comes_back_equal(state_store: Any, carrier: Carrier, name: str) -> None:
    require(state_store, carrier.capability)

    found = await carrier.carry(state_store, DEEP[name])

    assert same(found, DEEP[name])


@judges("values")
@carriers
async def test_the_order_of_keys_is_kept(state_store: Any, carrier: Carrier) -> None:
    require(state_store, carrier.capability)

    found = await carrier.carry(state_store, {"b": 1, "a": {"z": 1, "y": 2}, "c": 3})

    assert (list(found), list(found["a"])) == (["b", "a", "c"], ["z", "y"])


@judges("values")
@pytest.mark.parametrize(("carrier", "name"), pairs(list(HOSTILE)))
async def test_no_value_makes_a_call_raise(state_store: Any, carrier: Carrier, name: str) -> None:
    require(state_store, carrier.capability)

    await carrier.carry(state_store, HOSTILE[name]())


@judges("values")
@carriers
async def test_what_has_a_json_form_comes_back_in_it_or_as_itself(state_store: Any, carrier: Carrier) -> None:
    require(state_store, carrier.capability)

    changed = {}
    for name, forms in FORMS.items():
        value = HOSTILE[name]()
        found = await carrier.carry(state_store, value)
        if found != value and not any(same(found, form) for form in forms):
            changed[name] = found

    assert changed == {}


@judges("exactness")
@pytest.mark.parametrize(("carrier", "name"), pairs(list(EXACT)))
async def test_what_json_cannot_carry_comes_back_equal(state_store: Any, carrier: Carrier, name: str) -> None:
    require(state_store, carrier.capability)
    value = HOSTILE[name]()

    found = await carrier.carry(state_store, value)

    assert same(found, value)


@judges("exactness")
@carriers
async def test_bytes_come_back_as_bytes_or_as_base64_within_a_tag(state_store: Any, carrier: Carrier) -> None:
    require(state_store, carrier.capability)
    value = b"\x00\xff\x80hi"

    found = await carrier.carry(state_store, {"bytes": value})

    assert holds_bytes(found, value)


@judges("exactness")
@pytest.mark.parametrize("name", ["NaN", "infinities", "int of 65 bits", "int of 31 digits"])
async def test_numbers_in_steering_come_back_equal(state_store: Any, name: str) -> None:
    require(state_store, "steering")
    session_id, sent = fresh(), {"v": HOSTILE[name]()}

    await state_store.save_steering(steering(session_id, sent))

    [found] = await state_store.list_steering(session_id)
    assert same(found.payload, sanitize_steering_event(steering(session_id, sent)).payload)
