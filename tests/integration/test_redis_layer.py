"""RedisChannelLayer on a real Redis: what an event loop hears of, whatever becomes of Redis."""

import asyncio
import errno
import gc
import re
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from cryptography.fernet import InvalidToken
from redis._parsers import _AsyncHiredisParser, _AsyncRESP2Parser
from redis.exceptions import NoPermissionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from panther_channels._hub.addresses import new_connection_id
from panther_channels._hub.control import control
from panther_channels._hub.delivery import message_event
from panther_channels.layers import RedisChannelLayer
from panther_channels.layers.backplane import EVERYBODY, Nodes
from panther_channels.layers.mailbox import Mailbox
from panther_channels.layers.redis import shard
from panther_channels.layers.redis.frames import pack
from tests.broker import Broker
from tests.conftest import StartRedis
from tests.layers import close_layer, member, of_connection, redis_layer, shard_of
from tests.servers import ROOT
from tests.waiting import SECONDS, until

MakeLayer = Callable[..., Any]


@pytest.fixture
def make_layer(make_redis_layer: MakeLayer) -> MakeLayer:
    return make_redis_layer


# redis-py takes the first where hiredis is installed, as it is here.
PARSERS = [_AsyncHiredisParser, _AsyncRESP2Parser]
either_parser = pytest.mark.parametrize("layer", PARSERS, indirect=True)


@pytest.fixture
def layer(make_layer: MakeLayer, broker: Broker, request: pytest.FixtureRequest) -> Any:
    if (parser := getattr(request, "param", None)) is not None:
        return make_layer(hosts=[{"address": broker.url, "parser_class": parser}])
    return make_layer()


async def received(layer: Any, channel: str) -> Any:
    return await asyncio.wait_for(layer.receive(channel), SECONDS)


async def is_heard(layer: Any, channel: str, group: str = "room") -> None:
    """What is sent to a group arrives, and nothing was before it."""
    await layer.group_send(group, {"n": 1})
    assert await received(layer, channel) == {"n": 1}


async def until_connected_again(layer: Any, lost: Any) -> None:
    await until(lambda: shard_of(layer)._connection not in (lost, None))


# Who is subscribed to what


@pytest.mark.parametrize("prefix", ["asgi", "odd*[x]\\?^"])
async def test_who_listens_is_known_by_name(make_layer: MakeLayer, prefix: str):
    layers = [make_layer(prefix=prefix), make_layer(prefix=prefix), make_layer(prefix="odd-x?^")]
    assert await layers[0].all_nodes() == frozenset()
    for each in layers:
        await member(each)
    assert await layers[0].all_nodes() == {each.node() for each in layers[:2]}


@either_parser
async def test_a_connection_costs_no_subscription(layer: Any, make_layer: MakeLayer, broker):
    channels = await asyncio.gather(
        *(member(layer, of_connection(layer, number)) for number in range(50))
    )
    home = f"asgi.0__node__{layer.node()}"
    assert (broker.calls("subscribe"), broker.channels()) == (1, [home])
    sender = make_layer()
    for number, channel in enumerate(channels):
        await sender.group_send(of_connection(layer, number), {"n": number})
        await sender.send(channel, {"n": -number})
        assert await received(layer, channel) == {"n": number}
        assert await received(layer, channel) == {"n": -number}
    assert broker.calls("publish") == 100
    groups = [f"room-{number}" for number in range(10)]
    for channel in channels[:2]:
        for group in groups:
            await layer.group_add(group, channel)
    assert broker.calls("subscribe") == 11
    assert len(broker.channels()) == 11
    for channel in channels[:2]:
        assert len(broker.channels()) == 11
        for group in groups:
            await layer.group_discard(group, channel)
    await until(lambda: broker.channels() == [home])


async def test_who_leaves_leaves_nothing(layer: Any, broker: Broker):
    group, node = of_connection(layer), layer._get_layer()
    released, cancelled = await layer.open_channel(), await member(layer, group, "room")
    await released.join("room")
    await released.join_as(new_connection_id(layer))
    await released.leave_all()
    await released.release()
    for left in ("room", group):
        await layer.group_discard(left, cancelled)
    for channel in (cancelled, "tasks"):
        receiving = asyncio.create_task(layer.receive(channel))
        await until(lambda: any(queue.is_awaited for queue in node.channels.values()))
        receiving.cancel()
        await asyncio.wait({receiving})
    # But for what the event loop hears, and what everybody does.
    await until(lambda: len(broker.channels()) == 2)
    assert (node.channels, node.groups, node.connections) == ({}, {}, {})
    assert len(shard_of(layer)._wanted) == 2


async def test_what_is_of_other_event_loops(layer: Any, make_layer: MakeLayer, broker: Broker):
    other = make_layer()
    channel, foreign = await layer.new_channel(), await other.new_channel()
    for call in (
        lambda: layer.receive(foreign),
        lambda: layer.group_add("room", foreign),
        lambda: layer.group_add(of_connection(other), channel),
    ):
        with pytest.raises(ValueError, match="event loop"):
            await call()
    assert broker.channels("*group*") == []
    # Somebody who has gone, and nobody ever.
    await layer.group_send(of_connection(other), {"n": 1})
    await layer.send(f"specific.{other.node()}!none", {"n": 1})
    await layer.group_send(f"connection.{'0' * 32}", {"n": 1})
    assert broker.calls("publish") == 3


async def test_redis_knows_a_subscription_when_it_counts(layer: Any, broker: Broker):
    for number in range(1, 50):
        await member(layer, f"room-{number}")
        assert len(broker.channels("*group*")) == number


async def test_how_many_have_members(layer: Any, make_layer: MakeLayer, broker: Broker):
    other = make_layer()
    assert await layer.nodes("room") == Nodes(None, 0)
    for each in (layer, layer, other):
        await member(each)
    assert await layer.nodes("room") == Nodes(None, 2)
    hasty = make_layer("?socket_timeout=0.2")
    with broker.silent(), pytest.raises(RedisTimeoutError, match=r"within 0\.2 s"):
        await hasty.nodes("room")


async def test_others_may_write_what_they_like(
    layer: Any, broker: Broker, caplog: pytest.LogCaptureFixture
):
    channel = await member(layer, of_connection(layer))
    frames = [b"", b"\xc1", b"\x05", b"\x92\x01\x02", pack("nobody", b"x"), b"\x81\x81\x01\x02\x03"]
    for frame in frames:
        broker.command("PUBLISH", f"{layer.prefix}__node__{layer.node()}", frame)
    await is_heard(layer, channel, of_connection(layer))
    assert caplog.text.count("can't be read") == 5


# Whose Redis it is


@pytest.mark.parametrize(
    ("hosts", "prefix"),
    [
        (None, "asgi.0"),
        (["redis://127.0.0.1"], "asgi.0"),
        (["redis://127.0.0.1/3"], "asgi.3"),
        (["redis://127.0.0.1?db=4"], "asgi.4"),
        (["unix:///run/redis.sock?db=5"], "asgi.5"),
        ([{"address": "redis://127.0.0.1/1"}], "asgi.1"),
        ([{"address": "redis://127.0.0.1", "db": 6}], "asgi.6"),
        ([{"host": "127.0.0.1", "db": 2}], "asgi.2"),
        ([("127.0.0.1", 6379)], "asgi.0"),
        ([{"sentinels": [("127.0.0.1", 1)], "master_name": "m", "db": 7}], "asgi.7"),
        (["redis://127.0.0.1/1", "redis://127.0.0.2/1"], "asgi.1"),
        (["redis://127.0.0.1/1", "redis://127.0.0.2/2"], "asgi.1.2"),
    ],
    ids=str,
)
def test_the_number_of_the_database_is_in_the_prefix(hosts: Any, prefix: str):
    assert RedisChannelLayer(hosts).prefix == prefix
    assert RedisChannelLayer(hosts, "mine").prefix == RedisChannelLayer(prefix="mine").prefix


async def test_several_hosts(start_redis: StartRedis):
    servers = [start_redis() for _ in range(3)]
    layers = [RedisChannelLayer(hosts=[server.url for server in servers]) for _ in range(3)]
    groups = [f"room-{number}" for number in range(30)]
    for layer in layers:
        channel = await member(layer, *groups, of_connection(layer))
        for group in groups:
            await is_heard(layer, channel, group)
        await layers[0].send(channel, {"n": 2})
        assert await received(layer, channel) == {"n": 2}
        await layers[0].group_send(of_connection(layer), {"n": 3})
        assert await received(layer, channel) == {"n": 3}
        for group in groups:
            assert await layer.nodes(group) == Nodes(None, 1)
        await layer.flush()
    for server in servers:
        assert Broker(lambda found=server: found).calls("subscribe") > 5


async def test_messages_are_encrypted(make_layer: MakeLayer, broker: Broker):
    layer = make_layer(symmetric_encryption_keys=["a", "b"])
    old = make_layer(symmetric_encryption_keys=["b"], serializer_format="msgpack")
    channel = await member(layer, of_connection(layer), "room")
    with broker.listening(f"{layer.prefix}*") as listened:
        for sender in (layer, old):
            await sender.send(channel, {"text": "secret"})
            await sender.group_send("room", {"text": "secret"})
            await sender.group_send(of_connection(layer), {"text": "secret"})
            for _ in range(3):
                assert await received(layer, channel) == {"text": "secret"}
        seen = [listened.get_message(timeout=1)["data"] for _ in range(6)]
    assert not any(b"secret" in data for data in seen)
    await make_layer().group_send("room", {"text": "plain"})
    with pytest.raises(InvalidToken):
        await received(layer, channel)


# The connection to Redis


@pytest.mark.parametrize("query", ["?protocol=2", "?protocol=3", "?health_check_interval=1"])
async def test_settings_of_redis_py(make_layer: MakeLayer, query: str, monkeypatch):
    monkeypatch.setattr(shard, "_READ", 0.01)
    layer = make_layer(query)
    channel = await member(layer)
    if "health" in query:
        connection = shard_of(layer)._connection
        checked = connection.next_health_check
        await until(lambda: connection.next_health_check > checked)
    await is_heard(layer, channel)


@either_parser
@pytest.mark.parametrize("is_late", [False, True])
async def test_a_message_that_comes_with_the_subscription(
    layer: Any, broker: Broker, monkeypatch, is_late: bool
):
    """In one read: whoever sent it was told that somebody gets it."""
    if is_late:  # in the moment in which redis-py finds that there was silence
        monkeypatch.setattr(shard, "_READ", 0.0)
    await member(layer)
    receiving = asyncio.create_task(layer.receive("news"))
    await asyncio.sleep(0)
    while not (channels := broker.channels("*__channel__news")):  # and nothing is read meanwhile
        time.sleep(0.001)  # noqa: ASYNC251
    payload = layer.serialize({"n": 1})
    assert broker.command("PUBLISH", channels[0], payload) == 1
    assert await asyncio.wait_for(receiving, SECONDS) == {"n": 1}


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_message_that_cannot_be_delivered_is_an_outage(
    new_loop: Any, broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch
):
    layer = RedisChannelLayer(hosts=[broker.url])

    def put(_self: Any, _payload: bytes) -> None:
        monkeypatch.undo()
        raise LookupError("no room")

    async def main() -> None:
        channel = await member(layer)
        lost = shard_of(layer)._connection
        monkeypatch.setattr(Mailbox, "put", put)
        await layer.group_send("room", {"n": 0})
        await until_connected_again(layer, lost)
        await until(lambda: shard_of(layer).is_at_home)
        await is_heard(layer, channel)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "no room" in caplog.text


def give_up(connection: Any) -> None:
    """What the kernel does when keepalive is not answered, and asyncio with that."""
    error = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
    connection._writer.transport._fatal_error(error, "read error")


async def test_a_connection_that_the_kernel_gave_up(layer: Any):
    channel = await member(layer)
    lost = shard_of(layer)._connection
    give_up(lost)
    await until_connected_again(layer, lost)
    await is_heard(layer, channel)


async def test_redis_py_takes_the_end_for_silence(layer: Any):
    """Once this fails, redis-py raises here, and a part of the mend may go."""
    await member(layer)
    task, connection = shard_of(layer)._task, shard_of(layer)._connection
    shard_of(layer)._connection = None  # so that it stays
    task.cancel()
    await asyncio.wait({task})
    give_up(connection)
    assert await connection.read_response(timeout=0.1, disconnect_on_error=False) is None
    assert connection.is_connected
    await connection.disconnect(nowait=True)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_leaving_and_joining_while_the_connection_is_lost(
    new_loop: Any, broker: Broker, caplog: pytest.LogCaptureFixture
):
    layer = RedisChannelLayer(hosts=[broker.url])

    async def main() -> None:
        channel = await member(layer)
        lost = shard_of(layer)._connection
        lost._writer.transport.abort()
        joining: list[asyncio.Task[str]] = []
        while shard_of(layer)._connection is lost:
            joining.append(asyncio.create_task(member(layer, f"room-{len(joining)}")))
            await layer.group_discard("room", channel)
            await layer.group_add("room", channel)
        channels = await asyncio.wait_for(asyncio.gather(*joining), SECONDS)
        await is_heard(layer, channels[0], "room-0")

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())  # and the end of the loop closes what the layer has open
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_the_first_attempt_to_connect_again_is_at_once(layer: Any, monkeypatch):
    monkeypatch.setattr(shard, "_ATTEMPT", 1.0)
    await member(layer)
    await asyncio.sleep(1.0)  # between two attempts is the pause, not between a loss and the next
    lost, start = shard_of(layer)._connection, time.monotonic()
    lost._writer.transport.abort()
    await until_connected_again(layer, lost)
    assert time.monotonic() - start < 1.0


async def test_between_two_attempts_is_a_pause(layer: Any, broker: Broker, monkeypatch):
    monkeypatch.setattr(shard, "_OUTAGE", 1000)
    await member(layer)
    shard_of(layer)._pause = 500
    broker.kill()
    await until(lambda: shard_of(layer)._away_since is not None)
    broker.start()
    await asyncio.sleep(0.3)  # what is tested is that nothing happens
    assert broker.clients("pubsub") == []


async def test_who_comes_during_an_outage_waits_for_its_end(layer: Any, broker: Broker):
    """Or an open connection would be out of reach."""
    channel = await layer.new_channel()
    broker.kill()
    await until(lambda: shard_of(layer)._away_since is not None)
    coming = [
        asyncio.create_task(call)
        for call in (layer.new_channel(), layer.group_add(of_connection(layer), channel))
    ]
    await asyncio.wait(coming, timeout=0.2)
    assert not any(task.done() for task in coming)
    broker.start()
    await asyncio.wait_for(asyncio.gather(*coming), SECONDS)
    assert len(broker.channels()) == 1
    await is_heard(layer, channel, of_connection(layer))


async def test_nothing_is_kept_of_who_could_not_come(layer: Any, broker: Broker, monkeypatch):
    monkeypatch.setattr(shard, "_CONFIRM", 0.1)
    with broker.silent():
        for _ in range(3):
            with pytest.raises(RedisTimeoutError):
                await layer.new_channel()
        with pytest.raises(RedisTimeoutError):
            await layer.receive("tasks")
    assert layer._get_layer().channels == {}
    monkeypatch.setattr(shard, "_CONFIRM", SECONDS)
    await is_heard(layer, await member(layer))


async def test_who_gives_up_leaves_a_group_to_the_others(layer: Any, broker: Broker):
    first, second = await layer.new_channel(), await layer.new_channel()
    broker.pause(300)
    joining = [asyncio.create_task(layer.group_add("room", each)) for each in (first, second)]
    await asyncio.sleep(0.01)  # they have begun
    joining[0].cancel()
    await asyncio.wait(joining)
    assert joining[0].cancelled()
    await layer.group_discard("room", first)
    await joining[1]
    await is_heard(layer, second)


async def test_many_subscriptions_are_made_again(layer: Any, broker: Broker):
    for number in range(20):
        await member(layer, f"room-{number}")
    before = broker.channels()
    broker.cut()
    await until(lambda: broker.channels() == before)
    assert len(before) == 21


def guest(broker: Broker, *rules: str) -> None:
    broker.command("ACL", "SETUSER", "guest", "on", ">secret", *rules)


def grant(broker: Broker, text: str) -> None:
    """What a line tells."""
    told = re.search("ACL SETUSER .*", text)
    assert told is not None, text
    broker.command(*told[0].rstrip(".").split())


async def test_a_group_that_an_acl_forbids_costs_nobody_else(
    make_layer: MakeLayer, broker: Broker, caplog: pytest.LogCaptureFixture
):
    """One line, and no outage; and once it is allowed, it is there."""
    guest(broker, "+@all", "resetchannels", "&asgi.0__node__*")
    layer = make_layer("?username=guest&password=secret")
    channel = await member(layer, group := of_connection(layer))
    with pytest.raises(NoPermissionError, match="refuses the channel layer"):
        await layer.group_add("room", channel)
    for _ in range(2):
        await is_heard(layer, channel, group)
        broker.cut()
        await until(lambda: len(broker.channels()) == 1)
    grant(broker, caplog.text)
    await until(lambda: not shard_of(layer)._missing)
    await layer.group_add("room", channel)
    await is_heard(layer, channel)
    texts = [record.getMessage() for record in caplog.records]
    assert sum("refuses the" in text for text in texts) == 1
    assert sum("is lost" in text for text in texts) <= 2


CHANNELS = "refuses the channel layer something: .* channels .* ACL SETUSER guest "
COMMANDS = "refuses the channel layer something: .* 'subscribe' command.* ACL SETUSER guest "
PASSWORD = "doesn't let the channel layer in, as the user 'guest': invalid username-password pair"


@pytest.mark.parametrize(
    ("rules", "password", "said", "subscribes"),
    [
        (["allcommands", "resetchannels"], "secret", CHANNELS, 6),
        (["allchannels", "+@connection"], "secret", COMMANDS, 6),
        (["allcommands", "allchannels"], "wrong", PASSWORD, 0),
    ],
    ids=["channels", "commands", "password"],
)
async def test_what_no_other_attempt_mends_is_told_as_what_it_is(
    rules: list[str],
    password: str,
    said: str,
    subscribes: int,
    make_layer: MakeLayer,
    broker: Broker,
    caplog: pytest.LogCaptureFixture,
):
    """To who subscribes, at once, to who sends, and once in the log; attempts become rare."""
    guest(broker, *rules)
    layer = make_layer(f"?username=guest&password={password}")
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: layer.new_channel(),
        lambda: layer.group_send("room", {"n": 1}),
        lambda: layer.new_channel(),
    ]
    for call in calls:
        with pytest.raises(RedisError, match=said.replace("'subscribe'", "'(subscribe|publish)'")):
            await asyncio.wait_for(call(), 1)
    await until(lambda: shard_of(layer)._pause >= 0.5)
    assert broker.calls("subscribe") <= subscribes
    if subscribes:
        grant(broker, caplog.text)
    else:
        guest(broker, ">wrong")
    await until(lambda: "Redis is back" in caplog.text)
    await is_heard(layer, await member(layer))
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2
    assert re.search(said, texts[0])


async def test_the_rights_that_the_page_names(
    make_layer: MakeLayer, broker: Broker, caplog: pytest.LogCaptureFixture
):
    grant(broker, (ROOT / "docs" / "howto" / "redis.md").read_text())
    layer = make_layer("?username=project&password=password")
    channel = await member(layer)
    for _ in range(4):
        await layer.group_send("room", {"text": "x" * 500_000})
        await received(layer, channel)
    await is_heard(layer, channel)
    assert await layer.nodes("room") == Nodes(number=1)
    assert broker.calls("client|list") > 0
    assert caplog.text == ""


async def test_what_is_no_redis(caplog: pytest.LogCaptureFixture):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        layer = redis_layer("redis", f"redis://127.0.0.1:{port}")
        said = rf"What answers at 127.0.0.1:{port} is no Redis: .*(HTTP/1.1 400 Bad Request|\"H\")"
        for call in (layer.new_channel, lambda: layer.group_send("room", {"n": 1})):
            with pytest.raises(RedisError, match=said):
                await asyncio.wait_for(call(), 1)
        await close_layer(layer)
    assert re.search(said, caplog.text)
    assert "is lost" not in caplog.text


async def test_who_subscribes_in_an_outage_is_told_of_it(layer: Any, broker: Broker):
    channel = await member(layer)
    broker.kill()
    with pytest.raises(RedisError, match="Connect call failed"):
        await asyncio.wait_for(layer.group_add("hall", channel), 3)
    assert shard_of(layer)._pause == shard._OUTAGE
    broker.start()
    await until(lambda: len(broker.channels()) == 3)


@either_parser
async def test_new_connections_while_an_old_one_is_made_again(layer: Any, broker: Broker):
    channel = await member(layer)
    broker.pause(500)
    shard_of(layer)._connection._writer.transport.abort()
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(member(layer, f"room-{number}") for number in range(20)))
    await until(lambda: len(broker.channels()) == 22)
    await is_heard(layer, channel)


async def test_a_receiver_that_others_have_cancelled_starts_again(layer: Any):
    await member(layer)
    task = shard_of(layer)._task
    task.cancel()
    await asyncio.wait({task})
    await is_heard(layer, await member(layer, "hall"), "hall")


async def test_after_a_flush_it_goes_on(layer: Any, broker: Broker):
    channel = await member(layer)
    await layer.flush()
    await until(lambda: broker.channels() == [])
    await is_heard(layer, await member(layer))
    receiving = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0)
    await layer.send(channel, {"n": 2})
    assert await asyncio.wait_for(receiving, SECONDS) == {"n": 2}
    assert len(broker.channels()) == 2, "those from before are forgotten"


async def test_a_member_that_nobody_receives_from(layer: Any, broker: Broker):
    """It is a member still when somebody does again, as after a timeout; nothing waits for it."""
    channel, node = await member(layer), layer._get_layer()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(layer.receive(channel), 0.01)
    other = await member(layer)
    await is_heard(layer, other)
    assert len(node.channels[channel]) == 0
    receiving = asyncio.create_task(layer.receive(channel))
    await until(lambda: node.channels[channel].is_awaited)
    await is_heard(layer, other)
    assert await asyncio.wait_for(receiving, SECONDS) == {"n": 1}
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(channel), 0.01)
    for each in (channel, other):
        await layer.group_discard("room", each)
    assert [*node.channels] == [other]
    await until(lambda: broker.channels("*group*") == [])


async def test_groups_that_were_joined_by_name_are_left(layer: Any):
    inbox, node = await layer.open_channel(), layer._get_layer()
    for group in ("room", of_connection(layer)):
        await layer.group_add(group, inbox.name)
    await inbox.leave_all()
    await inbox.release()
    assert (node.channels, node.groups) == ({}, {})


async def test_a_connection_that_is_named_again_is_reached_once(layer: Any):
    inbox, node = await layer.open_channel(), layer._get_layer()
    for _ in range(2):
        await inbox.join_as(new_connection_id(layer))
    assert [*node.connections.values()] == [inbox]
    await inbox.leave_all()
    assert node.connections == {}


def test_nothing_is_kept_of_an_event_loop_that_has_asked(broker: Broker):
    layer, loops = redis_layer("redis", broker.url), list[weakref.ref[Any]]()

    async def ask() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        event = message_event("hello")
        asking = [control(layer).ask_all(EVERYBODY, event, SECONDS) for _ in range(2)]
        sending = [layer.group_send("room", event) for _ in range(3)]
        await asyncio.gather(*asking, *sending)

    asyncio.run(ask())
    gc.collect()
    assert loops[0]() is None
