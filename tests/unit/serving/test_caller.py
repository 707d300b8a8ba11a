import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.errors import InvalidInput
from serving.caller import CALL, REQUEST_ID, SPEAKER, Caller


def test_the_names_come_from_the_headers() -> None:
    caller = Caller.of({REQUEST_ID: "r-1", CALL: "call-7", SPEAKER: "anna@desk.2"})
    assert caller == Caller(request_id="r-1", call="call-7", speaker="anna@desk.2")


def test_a_request_without_names_gets_an_id_of_its_own() -> None:
    first, second = Caller.of({}), Caller.of({CALL: ""})
    assert first.request_id != second.request_id
    assert (first.call, second.call, first.speaker) == (None, None, None)


def test_the_utterances_of_one_request_get_ids_of_their_own() -> None:
    caller = Caller(request_id="r")
    assert [one.request_id for one in caller.numbered(3)] == ["r-1", "r-2", "r-3"]
    assert caller.numbered(1) == [caller]


@pytest.mark.parametrize("header", [REQUEST_ID, CALL, SPEAKER])
@settings(max_examples=30, deadline=None, derandomize=True)
@given(name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,119}", fullmatch=True))
def test_plain_names_are_taken(header: str, name: str) -> None:
    assert name in vars(Caller.of({header: name})).values()


@pytest.mark.parametrize("header", [REQUEST_ID, CALL, SPEAKER])
@pytest.mark.parametrize("name", ["../r", ".r", "a/b", "a b", "a\nb", "é", "a" * 121])
def test_names_that_are_no_safe_keys_are_refused(header: str, name: str) -> None:
    with pytest.raises(InvalidInput, match=header):
        Caller.of({header: name})
