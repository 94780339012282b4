"""Authentications, permissions and middlewares."""

from tests.client import Client
from tests.contracts.scenarios.registry import scenario

REFUSES = "an exception before accept refuses the handshake, whatever its class"
BOUND = "documented by Panther, where a function in a class body becomes a bound method"


@scenario
async def the_projects_authentication(connect: Client) -> object:
    return [
        await connect.first("/access/default/", headers={"X-Default-User": "dora"}),
        await connect.first("/access/default/"),
    ]


@scenario
async def the_own_authentication_wins(connect: Client) -> object:
    return await connect.first("/access/auth/class/", headers={"X-Default-User": "dora"})


@scenario
async def authentication_by_a_class(connect: Client) -> object:
    own = await connect("/access/auth/class/")
    return [await own.receive(), await own.ask("again"), await connect.journal(2)]


@scenario
async def authentication_by_an_instance(connect: Client) -> object:
    return await connect.first("/access/auth/instance/")


@scenario
async def authentication_by_a_method(connect: Client) -> object:
    return await connect.first("/access/auth/method/")


@scenario
async def authentication_by_a_static_function(connect: Client) -> object:
    return await connect.first("/access/auth/static/")


@scenario(because=BOUND, ours='["function"]')
async def authentication_by_a_function(connect: Client) -> object:
    return await connect.first("/access/auth/function/")


@scenario
async def authentication_that_finds_nobody(connect: Client) -> object:
    return [
        await connect.first("/access/auth/none/", headers={"X-Default-User": "dora"}),
        await connect.first("/access/auth/none-then-permission/"),
    ]


@scenario(
    because="a bad credential is a 401",
    ours=[['[{"name":"ann"}]', 401, "[null]"], ['[{"name":"ann"}]', 401, 403]],
)
async def authentication_by_a_header(connect: Client) -> object:
    right = {"Authorization": "Bearer right"}
    wrong = {"Authorization": "Bearer wrong"}
    return [
        [
            await connect.first(f"/access/auth/{path}/", headers=headers)
            for headers in (right, wrong, {})
        ]
        for path in ("header", "header-and-user")
    ]


@scenario
async def authentication_that_fails(connect: Client) -> object:
    return [await connect.first("/access/auth/failing/"), await connect.journal(0)]


@scenario
async def authentication_that_closes(connect: Client) -> object:
    return [await connect.first("/access/auth/closing/"), await connect.journal(0)]


@scenario
async def a_single_permission(connect: Client) -> object:
    return [
        await connect.first("/access/permission/single-class/"),
        await connect.first("/access/permission/single-instance/"),
    ]


@scenario
async def permissions_of_all_kinds(connect: Client) -> object:
    return [await connect.first("/access/permission/list/"), await connect.journal(4)]


@scenario
async def no_permissions(connect: Client) -> object:
    return [
        await connect.first("/access/permission/empty/"),
        await connect.first("/access/permission/nothing/"),
    ]


@scenario
async def a_permission_that_denies(connect: Client) -> object:
    return [
        [await connect.first(f"/access/permission/{path}/"), await connect.journal(1)]
        for path in ("deny-function", "deny-class", "deny-single")
    ]


@scenario
async def the_last_permission_denies(connect: Client) -> object:
    return [await connect.first("/access/permission/deny-last/"), await connect.journal(3)]


@scenario(because="permissions stop at the first refusal", ours=[403, ["deny"]])
async def permissions_stop_at_the_first_refusal(connect: Client) -> object:
    return [await connect.first("/access/permission/deny-first/"), await connect.journal(2)]


@scenario
async def truthy_answers_of_permissions(connect: Client) -> object:
    return await connect.first("/access/permission/truthy/")


@scenario(because="any falsy answer of a permission refuses: fail closed", ours=[403] * 3)
async def falsy_answers_of_permissions(connect: Client) -> object:
    return [
        await connect.first(f"/access/permission/{path}/")
        for path in ("answers-none", "answers-zero", "answers-empty")
    ]


@scenario
async def a_permission_that_fails(connect: Client) -> object:
    return await connect.first("/access/permission/failing/")


@scenario(because=REFUSES, ours=403, refused=401)
async def a_permission_that_raises_a_package_error(connect: Client) -> object:
    return await connect.first("/access/permission/raising/")


@scenario(because=BOUND, ours="[null]")
async def permission_by_a_function(connect: Client) -> object:
    return await connect.first("/access/permission/function/")


@scenario
async def permissions_see_the_request(connect: Client) -> object:
    return [
        await connect.first("/access/permission/rooms/7/?open=1", headers={"X-Room": "7"}),
        await connect.first("/access/permission/rooms/7/?open=1", headers={"X-Room": "8"}),
        await connect.first("/access/permission/rooms/8/?open=1", headers={"X-Room": "7"}),
    ]


@scenario
async def permissions_see_the_state(connect: Client) -> object:
    return [await connect.first("/access/permission/looking/"), await connect.journal(2)]


@scenario
async def the_order_of_a_handshake(connect: Client) -> object:
    return [await connect.first("/access/order/5/"), await connect.journal(4)]


@scenario(refused=400)
async def path_variables_are_cast_after_permissions(connect: Client) -> object:
    return [await connect.first("/access/order/x/"), await connect.journal(3)]


@scenario
async def permissions_come_before_path_variables(connect: Client) -> object:
    return [await connect.first("/access/denied-order/x/"), await connect.journal(3)]


@scenario(refused=401)
async def authentication_comes_before_permissions(connect: Client) -> object:
    headers = {"Authorization": "Bearer wrong"}
    return [
        await connect.first("/access/failed-order/5/", headers=headers),
        await connect.journal(0),
    ]


async def _middleware(connect: Client, task: str, path: str = "/middlewares/watched/") -> object:
    return await connect.first(path, headers={"X-Middleware": task, "X-Contract": "yes"})


@scenario
async def the_order_of_middlewares(connect: Client) -> object:
    watched = await connect("/middlewares/watched/", headers={"X-Middleware": "order"})
    frames = [await watched.receive(), await watched.ask("one"), await watched.close()]
    return [frames, await connect.journal(6)]


@scenario
async def a_middleware_that_closes(connect: Client) -> object:
    return [await _middleware(connect, "close"), await connect.journal(2)]


@scenario
async def a_middleware_that_fails(connect: Client) -> object:
    return [await _middleware(connect, "fail"), await connect.journal(0)]


@scenario(because=REFUSES, ours=[403, []], refused=401)
async def a_middleware_that_raises_a_package_error(connect: Client) -> object:
    return [await _middleware(connect, "raise"), await connect.journal(0)]


@scenario
async def a_middleware_sets_attributes(connect: Client) -> object:
    watched = await connect("/middlewares/watched/", headers={"X-Middleware": "attribute"})
    return [await watched.receive(), await watched.ask("tenant")]


@scenario
async def a_middleware_sees_the_request(connect: Client) -> object:
    return [
        await _middleware(connect, "look", "/middlewares/watched/?a=1"),
        await connect.journal(2),
    ]


@scenario
async def a_middleware_sees_the_state_after_a_client_close(connect: Client) -> object:
    watched = await connect("/middlewares/watched/", headers={"X-Middleware": "state"})
    return [await watched.receive(), await watched.close(), await connect.journal(2)]


@scenario
async def a_middleware_sees_the_state_after_an_own_close(connect: Client) -> object:
    watched = await connect("/middlewares/watched/", headers={"X-Middleware": "state"})
    return [await watched.receive(), await watched.ask("close"), await connect.journal(2)]
