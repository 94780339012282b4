"""Where we differ from Panther 5.5.0 on purpose: what our client sees instead, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Deviation:
    """The answer of ours that is right, and the reason why Panther's is not."""

    answer: object
    reason: str


_FAILED = (1011, "")
_DONE = "done"

_CLOSES_1011 = "an exception in a hook closes with 1011 (RFC 6455, section 7.4.1)"
_REFUSES = "an exception before accept refuses the handshake, whatever its class"
_FALSY = "any falsy answer of a permission refuses: fail closed"
_BOUND = "documented by Panther, where a function in a class body becomes a bound method"
_ANNOTATIONS = "annotations that Panther stumbles over, and refuses everyone for"
_CASTS = "more types than int and bool are cast"


def _cast(path: str, name: str, value: str) -> list[object]:
    return [(path, f'["{name}","{value}"]')]


DEVIATIONS: dict[str, Deviation] = {
    # Exceptions.
    "an_exception_after_accept_in_connect": Deviation([101, _FAILED], _CLOSES_1011),
    "an_exception_in_receive": Deviation(_FAILED, _CLOSES_1011),
    "a_package_error_in_receive": Deviation((1011, "meant: no more"), _CLOSES_1011),
    "a_package_error_before_accept": Deviation(403, _REFUSES),
    "a_permission_that_raises_a_package_error": Deviation(403, _REFUSES),
    "a_middleware_that_raises_a_package_error": Deviation([403, []], _REFUSES),
    # Permissions and authentications.
    "falsy_answers_of_permissions": Deviation([403, 403, 403], _FALSY),
    "permissions_stop_at_the_first_refusal": Deviation(
        [403, ["deny"]], "permissions stop at the first refusal"
    ),
    "authentication_by_a_function": Deviation('["function"]', _BOUND),
    "permission_by_a_function": Deviation("[null]", _BOUND),
    # Annotations of connect().
    "connect_with_a_return_annotation": Deviation(
        [*_cast("5", "int", "5"), ("x", 403)], _ANNOTATIONS
    ),
    "postponed_annotations": Deviation([("5", '["int",5]'), ("x", 403)], _ANNOTATIONS),
    "optional_integers_are_cast": Deviation([*_cast("5", "int", "5"), ("x", 403)], _ANNOTATIONS),
    "union_with_none_is_cast": Deviation([*_cast("5", "int", "5"), ("x", 403)], _ANNOTATIONS),
    "literals_are_cast": Deviation([*_cast("left", "str", "left"), ("up", 403)], _ANNOTATIONS),
    "floats_are_cast": Deviation(
        [*_cast("1.5", "float", "1.5"), *_cast("2", "float", "2.0")], _CASTS
    ),
    "uuids_are_cast": Deviation(
        _cast("7e82d57c9ec04787b01916910a9f45aa", "UUID", "7e82d57c-9ec0-4787-b019-16910a9f45aa"),
        _CASTS,
    ),
    "decimals_are_cast": Deviation(_cast("1.50", "Decimal", "1.50"), _CASTS),
    "dates_are_cast": Deviation(_cast("2024-02-29", "date", "2024-02-29"), _CASTS),
    "datetimes_are_cast": Deviation(
        _cast("2024-02-29T12:30:00", "datetime", "2024-02-29 12:30:00"), _CASTS
    ),
    "enums_are_cast": Deviation(_cast("winter", "Season", "Season.WINTER"), _CASTS),
    "a_bad_value_of_a_richer_type": Deviation([403] * 6, _CASTS),
    # The connection.
    "accept_with_headers": Deviation(
        ["kept", "open"], "accept() takes a dict of headers, where Panther's fails"
    ),
    "the_id_is_a_string": Deviation('["str",32]', "the id is the hex of a UUID"),
    "disconnect_is_told_of_a_client_close": Deviation(
        [(4321, "leaving"), [4321]], "there is a hook disconnect()"
    ),
    # Refusals.
    "authentication_by_a_header": Deviation(
        [
            ['[{"name":"ann"}]', 401, "[null]"],
            ['[{"name":"ann"}]', 401, 403],
        ],
        "a bad credential is a 401",
    ),
    # Requests.
    "the_last_of_a_repeated_header_wins": Deviation(
        ["1,2", "1,2"], "repeated headers are joined, as daphne does before anybody can see them"
    ),
    "an_empty_part_for_a_variable": Deviation(
        [
            ("/routing/between//end", 403),
            ("/routing/both//sub", 403),
            ("/routing/both//", 403),
        ],
        "a variable is never empty",
    ),
    # From outside.
    "bytes_from_outside": Deviation(
        [_DONE, b"\x00\xffone"], "bytes from outside work on every channel layer"
    ),
    "a_failing_send_from_outside_touches_no_other": Deviation(
        "héllo", "a failing outside send touches only its own connection"
    ),
}

# Refusals that say more than Panther's, which are all 403.
REFUSALS = {
    **dict.fromkeys(
        (
            "a_name_both_ends_and_goes_on",
            "a_prefix_is_no_match",
            "a_static_part_is_not_taken_back",
            "a_variable_between_static_parts",
            "a_variable_both_ends_and_goes_on",
            "an_empty_dict_reserves_its_path",
            "an_empty_part_for_a_variable",
            "an_encoded_slash_separates",
            "an_unknown_path_is_refused",
            "doubled_slashes_inside_are_no_match",
            "paths_are_case_sensitive",
        ),
        404,
    ),
    **dict.fromkeys(
        (
            "a_bad_boolean_is_refused",
            "a_bad_integer_is_refused",
            "a_bad_value_of_a_richer_type",
            "connect_with_a_return_annotation",
            "literals_are_cast",
            "optional_integers_are_cast",
            "path_variables_are_cast_after_permissions",
            "postponed_annotations",
            "several_variables",
            "union_with_none_is_cast",
        ),
        400,
    ),
    **dict.fromkeys(
        (
            "a_middleware_that_raises_a_package_error",
            "a_permission_that_raises_a_package_error",
            "authentication_comes_before_permissions",
        ),
        401,
    ),
}


def expected_answer(name: str, theirs: object) -> tuple[object, str]:
    """What our client has to see where Panther's saw ``theirs``, and the reason if it differs."""
    reason = ""
    if deviation := DEVIATIONS.get(name):
        theirs, reason = deviation.answer, deviation.reason
    if name in REFUSALS:
        theirs = _with_status(theirs, REFUSALS[name])
        reason = reason or "a refusal says why by its status"
    return theirs, reason


def _with_status(answer: object, status: int) -> object:
    if isinstance(answer, list | tuple):
        return type(answer)(_with_status(part, status) for part in answer)
    return status if answer == 403 else answer
