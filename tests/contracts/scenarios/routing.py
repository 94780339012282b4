"""Which endpoint a path finds."""

import json
from functools import partial

from tests.client import Client
from tests.contracts.applications.package import GenericWebsocket
from tests.contracts.scenarios.registry import URLS, Scenario, add, scenario


def _named(name: str) -> type[GenericWebsocket]:
    """A class that tells its name and its path variables."""

    class Named(GenericWebsocket):
        async def connect(self, **kwargs: str):
            await self.accept()
            await self.send([name, self.path_variables])

    return Named


STATIC, VARIABLE, DEEP, UNDER = map(_named, ("static", "variable", "deep", "under a variable"))
URLS[""] = _named("root")
URLS["routing"] = {
    "": _named("index"),
    "static": STATIC,
    "static-2_x": STATIC,
    "<name>": VARIABLE,
    "deep": {"a": {"b": {"c": {"d": DEEP}}}},
    "keys/with/slashes": DEEP,
    "/slashed/": {"/inner/": {"": STATIC, "/<value>/": VARIABLE}},
    "reserved": {"me": {}, "<name>": VARIABLE},
    # A part that matches statically is never tried as the variable beside it.
    "branch": {
        "static": {"only": STATIC},
        "<value>": {"": VARIABLE, "other": UNDER, "only": DEEP},
    },
    "both/<value>": VARIABLE,
    "both/<value>/sub": UNDER,
    "both/<value>/<other>": DEEP,
    "between/<value>/end": UNDER,
    "leaf": STATIC,
    "leaf/below": DEEP,
}
#: paths below /routing/, or whole ones; which have no endpoint is up to Panther
PATHS: dict[str, list[str]] = {
    "the_root": ["/", "/?a=1"],
    "the_empty_name_of_a_dict": ["/routing", ""],
    "trailing_slashes_are_optional": ["static", "static/", "static/?a=1", "static//", "static///"],
    "slashes_in_the_urls_are_optional": [
        *("slashed/inner", "slashed/inner/", "slashed/inner/x", "keys/with/slashes")
    ],
    "dicts_nest_to_any_depth": ["deep/a/b/c/d", "deep/a/b/c/d/"],
    "a_static_part_beats_a_variable": ["static", "static-2_x", "stati", "other/"],
    "slashes_at_the_beginning_are_stripped": ["//routing/static", "///routing/static/"],
    "odd_characters_in_a_variable": [
        *("a.b", "..", "%3Cname%3E", "a%3Fb", "a%23b", "a=b&c", "%0A")
    ],
}
WITH_REFUSALS: dict[str, list[str]] = {
    "a_prefix_is_no_match": [
        *("deep", "deep/a/b/", "deep/a/b/c/d/e/", "keys/with"),
        *("/message", "/messages/", "/messages/ech", "/messages/echoes"),
    ],
    "an_unknown_path_is_refused": ["/unknown", "/unknown/path/", "/messages/unknown/?a=1", "/*"],
    "paths_are_case_sensitive": ["/ROUTING/static", "/Messages/echo", "STATIC"],
    "a_static_part_is_not_taken_back": [
        *("branch/static/only", "branch/static/other", "branch/static"),
        *("branch/x/other", "branch/x/only", "branch/x"),
    ],
    "an_empty_dict_reserves_its_path": ["reserved/me", "reserved/me/", "reserved/you"],
    "a_variable_both_ends_and_goes_on": [
        *("both/1", "both/1/", "both/1/sub", "both/1/2/", "both/sub/sub/", "both/1/2/3")
    ],
    "a_name_both_ends_and_goes_on": ["leaf", "leaf/below", "leaf/above"],
    "a_variable_between_static_parts": [
        *("between/1/end", "between/end/end", "between/1", "between/1/2/end")
    ],
    "doubled_slashes_inside_are_no_match": [
        *("/routing//deep/a/b/c/d", "deep//a/b/c/d", "/messages//echo")
    ],
    "an_encoded_slash_separates": ["/routing%2Fstatic", "both/1%2Fsub", "x%2Fy"],
}


async def _found(paths: list[str], connect: Client) -> list[object]:
    return [(path, await connect.first(path)) for path in paths]


for name, paths in PATHS.items():
    add(Scenario(name, partial(_found, paths), "/routing/"))
for name, paths in WITH_REFUSALS.items():
    add(Scenario(name, partial(_found, paths), "/routing/", refused=404))
EMPTY = ["between//end", "both//sub", "both//"]
add(
    Scenario(
        "an_empty_part_for_a_variable",
        partial(_found, EMPTY),
        "/routing/",
        because="a variable is never empty",
        ours=[(path, 403) for path in EMPTY],
        refused=404,
    )
)


@scenario
async def http_to_a_websocket_url(connect: Client) -> object:
    seen: list[object] = []
    for path in ("/messages/echo/", "/routing/between/5/end"):
        status, content_type, body = await connect.http(path)
        seen.append([status, content_type, json.loads(body)])
    return seen
