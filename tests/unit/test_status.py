from http import HTTPStatus

import pytest

from panther_channels import status

CODES = {name: value for name, value in vars(status).items() if name.startswith(("HTTP_", "WS_"))}
SENDABLE = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


@pytest.mark.parametrize(("name", "value"), CODES.items())
def test_the_name_says_the_code(name: str, value: int):
    assert int(name.split("_")[1]) == value


def test_no_code_of_the_registry_is_missing():
    # Python calls some differently, and 510 and 103 came at different times: compare the numbers.
    http = {value for name, value in CODES.items() if name.startswith("HTTP_")}
    assert {member.value for member in HTTPStatus} <= http
    websocket = {value for name, value in CODES.items() if name.startswith("WS_")}
    assert websocket == {*range(1000, 1016), 3000, 3003, 3008}


def test_every_code_from_0_to_70000_is_sendable_or_not():
    assert {code for code in range(-1, 70_000) if status.is_sendable(code)} == SENDABLE
