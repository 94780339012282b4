"""Senders over RedisChannelLayer: nobody hears them at first, or somebody reads too slowly."""

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from panther_channels.layers import RedisChannelLayer
from panther_channels.layers.redis import pace, second_try, shard
from tests.broker import Broker
from tests.layers import member, of_connection, shard_of
from tests.servers import manage
from tests.waiting import SECONDS, until

MB = "x" * 1_000_000
COUNT = 30  # of them are more than what the kernel and Redis take without a word
OF_NOBODY = f"connection.{'0' * 32}"


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_told", set())


@pytest.fixture
def layer(make_redis_layer: Callable[..., Any]) -> Any:
    return make_redis_layer()


@pytest.fixture
def sender(make_redis_layer: Callable[..., Any]) -> Any:
    return make_redis_layer()


@pytest.fixture
def hasty(make_redis_layer: Callable[..., Any]) -> Any:
    """A layer that gives up after half a second."""
    return make_redis_layer("?socket_timeout=0.5")


async def numbers(layer: Any, channel: str, count: int) -> list[int]:
    async with asyncio.timeout(SECONDS):
        return [(await layer.receive(channel))["n"] for _ in range(count)]


# Nobody hears them


async def test_a_sender_waits_for_those_who_subscribe_again(
    sender: Any, layer: Any, broker: Broker, monkeypatch: pytest.MonkeyPatch
):
    """It learns of the outage by its own stale connection, and by nobody's having got it."""
    channel = await member(layer)
    await sender.group_send("room", {"n": 1})
    assert await numbers(layer, channel, 1) == [1]
    monkeypatch.setattr(shard, "_RETURN", 0)  # else it would wait for all, in any case
    monkeypatch.setattr(shard, "_ATTEMPT", 0.5)  # of the receiver, which the sender waits for
    broker.restart()
    await sender.group_send("room", {"n": 2})
    assert await numbers(layer, channel, 1) == [2]
    assert 1 < broker.calls("publish") <= 1 + shard._GRACE / shard._PAUSE
    await sender.group_send("room", {"n": 3})
    assert await numbers(layer, channel, 1) == [3], "what somebody got isn't sent again"


async def test_a_group_is_sent_to_when_all_its_members_are_back(
    sender: Any, make_redis_layer: Callable[..., Any], broker: Broker, monkeypatch: Any
):
    """Who comes back first must not be taken for all."""
    layers = [make_redis_layer() for _ in range(3)]
    channels = [await member(layer) for layer in layers]
    late = shard_of(layers[-1])
    connect = late._connect

    async def connect_late() -> Any:
        await asyncio.sleep(0.3)  # what it takes is what is tested
        return await connect()

    monkeypatch.setattr(late, "_connect", connect_late)
    for number in range(3):
        await sender.group_send("room", {"n": number})
        for layer, channel in zip(layers, channels, strict=True):
            assert await numbers(layer, channel, 1) == [number]
        broker.restart()


async def test_a_connection_that_the_kernel_gave_up_is_replaced(sender: Any, layer: Any):
    """By TCP keepalive, as after a cut of the network."""
    channel = await member(layer)
    await sender.group_send("room", {"n": 1})
    connection = shard_of(sender)._sending
    connection._reader.set_exception(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
    connection._writer.transport.abort()
    await sender.group_send("room", {"n": 2})
    assert await numbers(layer, channel, 2) == [1, 2]


async def test_redis_starts_anew_between_large_messages(sender: Any, layer: Any, broker: Broker):
    """Which takes another connection, by which the sender asks how much waits."""
    channel = await member(layer)
    for number in range(3):
        await sender.group_send("room", {"n": number, "text": MB + MB[:100_000]})
    assert await numbers(layer, channel, 3) == [0, 1, 2]
    broker.restart()
    await sender.group_send("room", {"n": 3, "text": MB + MB[:100_000]})
    assert await numbers(layer, channel, 1) == [3]


async def test_nobody_is_waited_for_in_good_times(layer: Any):
    start = time.monotonic()
    for group in [OF_NOBODY, "nobody"] * 25:
        await layer.group_send(group, {"n": 1})
    assert time.monotonic() - start < shard._GRACE


async def test_who_is_not_there_is_not_waited_for(sender: Any, layer: Any, broker: Broker):
    """Not at all by who never reached it, and once by who did: it may be coming back."""
    await layer.group_add(group := of_connection(layer), await layer.new_channel())
    assert not await sender.send_to_node(OF_NOBODY, {"n": 1})
    assert broker.calls("publish") == 1
    assert await sender.send_to_node(group, {"n": 1})
    await layer.flush()
    await until(lambda: not broker.channels())
    for calls in (4, 5):
        assert not await sender.send_to_node(group, {"n": 2})
        assert broker.calls("publish") == calls


async def test_who_subscribes_again_is_found(
    sender: Any, layer: Any, broker: Broker, monkeypatch: pytest.MonkeyPatch
):
    """By a sender that knows of no outage."""
    monkeypatch.setattr(shard, "_PAUSE", 0.5)
    await layer.group_add(group := of_connection(layer), channel := await layer.new_channel())
    assert await sender.send_to_node(group, {"n": 1})
    broker.cut()
    assert await sender.send_to_node(group, {"n": 2})
    assert await numbers(layer, channel, 2) == [1, 2]


async def test_those_who_subscribe_again_are_counted(
    sender: Any, layer: Any, broker: Broker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shard, "_ATTEMPT", 0.1)
    for each in (layer, sender):
        await member(each)
    assert (await layer.nodes("room")).number == 2
    broker.cut("normal")
    assert (await layer.nodes("room")).number == 2
    broker.cut()
    await until(lambda: not shard_of(layer).is_at_home)
    assert (await layer.nodes("room")).number == 2
    await sender.flush()
    assert (await layer.nodes("room")).number == 1, "nobody is waited for any longer"


async def test_who_has_gone_costs_one_more_attempt(sender: Any, broker: Broker):
    await sender.group_send(OF_NOBODY, {"n": 1})
    assert broker.calls("publish") == 1
    await until(lambda: broker.calls("publish") == 2)
    await sender.group_send("room", {"n": 1})
    assert OF_NOBODY not in shard_of(sender)._second_try
    assert broker.calls("publish") == 3


async def test_what_nobody_got_is_sent_once_more(
    sender: Any, layer: Any, monkeypatch: pytest.MonkeyPatch
):
    """As if a process had not subscribed again yet; in order, also with what comes meanwhile."""
    monkeypatch.setattr(second_try, "_DELAY", 2.0)  # for a busy machine
    group = of_connection(layer)
    for number in range(3):
        await sender.group_send(group, {"n": number})
    channel = await member(layer, group)
    await sender.group_send(group, {"n": 3})
    await sender.send(channel, {"n": 4})
    assert await numbers(layer, channel, 5) == [0, 1, 2, 3, 4]


async def test_the_last_messages_of_an_event_loop(
    broker: Broker, layer: Any, monkeypatch: pytest.MonkeyPatch
):
    """As of `manage.py websocket send`, which ends at once."""
    monkeypatch.setattr(second_try, "_next_end", 0.0)
    monkeypatch.setattr(second_try, "_DELAY", 2.0)  # for a busy machine
    group, has_sent = of_connection(layer), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def script() -> None:
        await RedisChannelLayer(hosts=[broker.url]).group_send(group, {"n": 1})
        loop.call_soon_threadsafe(has_sent.set)

    ending = asyncio.create_task(asyncio.to_thread(asyncio.run, script()))
    await asyncio.wait_for(has_sent.wait(), SECONDS)
    assert await numbers(layer, await member(layer, group), 1) == [1]
    await ending


@pytest.mark.parametrize("group", ["user.1", "room__node__1"])
async def test_who_joins_a_group_hears_nothing_older(sender: Any, layer: Any, group: str):
    """A user who has come back must not be closed for what was before."""
    await sender.group_send(group, {"n": 1})
    channel = await member(layer, group)
    await asyncio.sleep(2 * second_try._DELAY)  # what is tested is that nothing comes
    await sender.group_send(group, {"n": 2})
    assert await numbers(layer, channel, 1) == [2]


async def test_many_to_one_who_comes_late(sender: Any, layer: Any, monkeypatch: pytest.MonkeyPatch):
    """No more may wait: who sends without end waits himself, and nothing is sent too early."""
    monkeypatch.setattr(second_try, "_COUNT", 100)
    monkeypatch.setattr(second_try, "_DELAY", 0.3)
    group = of_connection(layer)

    async def send() -> None:
        for number in range(1000):
            await sender.group_send(group, {"n": number})
            assert shard_of(sender)._second_try._count <= second_try._COUNT

    sending = asyncio.create_task(send())
    await until(lambda: shard_of(sender)._second_try.is_full)
    channel = await member(layer, group)
    assert await numbers(layer, channel, 1000) == list(range(1000))
    await sending


async def test_who_waits_leaves_the_event_loop_to_others(
    sender: Any, broker: Broker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(second_try, "_COUNT", 10)
    await sender.group_send(OF_NOBODY, {"n": 0})
    has_run = asyncio.Event()
    asyncio.get_running_loop().call_soon(has_run.set)
    await sender.group_send(OF_NOBODY, {"n": 1})
    assert has_run.is_set()
    start = time.process_time()
    for number in range(20):
        await sender.group_send(OF_NOBODY, {"n": number})
    assert time.process_time() - start < second_try._DELAY / 2, "it didn't ask again and again"


@pytest.mark.parametrize("is_away", [True, False])
async def test_no_second_try_without_redis(
    sender: Any, broker: Broker, is_away: bool, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    await sender.group_send(OF_NOBODY, {"n": 1})
    if is_away:
        broker.kill()
    else:
        shard_of(sender)._limit = 0.1
        broker.command("CLIENT", "PAUSE", 60_000, "WRITE")
    await until(lambda: caplog.records)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    reason = "onnect" if is_away else "TimeoutError"
    assert reason in caplog.text.partition("nobody got can't be sent once more: ")[2]
    if not is_away:
        broker.command("CLIENT", "UNPAUSE")


async def test_a_second_try_over_a_connection_that_was_cut(
    sender: Any, layer: Any, broker: Broker, monkeypatch: pytest.MonkeyPatch
):
    """As when a proxy before Redis restarts: first the receiver is cut off, then the sender."""
    monkeypatch.setattr(second_try, "_DELAY", 2.0)  # for a busy machine
    group = of_connection(layer)
    await sender.group_send(group, {"n": 1})
    channel = await member(layer, group)
    broker.cut("normal")
    assert await numbers(layer, channel, 1) == [1]


async def test_what_redis_refuses_is_no_answer_to_the_next(
    sender: Any, broker: Broker, caplog: pytest.LogCaptureFixture
):
    for _ in range(2):
        await sender.group_send(OF_NOBODY, {"n": 1})
    broker.command("ACL", "SETUSER", "default", "resetchannels")
    await until(lambda: "that nobody got" in caplog.text)
    broker.command("ACL", "SETUSER", "default", "allchannels")
    await sender.group_send("room", {"n": 1})


@pytest.mark.parametrize("text", ["", MB + MB[:100_000]], ids=["small", "large"])
async def test_sending_while_the_layer_is_flushed(sender: Any, layer: Any, text: str):
    channel = await member(layer)
    await sender.group_send("room", {"n": 0})
    async with shard_of(sender)._lock:
        flushing = asyncio.create_task(sender.flush())
        await until(lambda: shard_of(sender)._lock._users == 2)
        sending = asyncio.create_task(sender.group_send("room", {"n": 1, "text": text}))
        await until(lambda: shard_of(sender)._lock._users == 3)
    await flushing
    await sending
    assert await numbers(layer, channel, 2) == [0, 1]


async def test_a_silent_redis_is_told_in_time(hasty: Any, broker: Broker):
    with broker.silent():
        with pytest.raises(RedisTimeoutError, match=r"^no answer within 0\.5 s$"):
            await asyncio.wait_for(hasty.group_send("room", {"n": 1}), SECONDS)
        assert shard_of(hasty)._failed_at > 0
    shard_of(hasty)._limit = SECONDS
    await hasty.group_send("room", {"n": 1})


async def test_who_gives_up_leaves_no_answer_to_the_next(sender: Any, layer: Any, broker: Broker):
    """Or each would take the answer to the one before him, and send twice what has arrived."""
    channel = await member(layer, group := of_connection(layer))
    await sender.group_send(group, {"n": 0})
    broker.pause(300)
    leaving = asyncio.create_task(sender.group_send(OF_NOBODY, {"n": -1}))
    with suppress(TimeoutError):
        await asyncio.wait_for(leaving, 0.05)
    assert leaving.cancelled()
    for number in range(1, 4):
        await sender.group_send(group, {"n": number})
    assert await numbers(layer, channel, 4) == [0, 1, 2, 3]
    assert shard_of(sender)._second_try._count == 0


async def test_one_connection_sends_until_the_end(sender: Any, broker: Broker):
    for number in range(10):
        await sender.group_send(f"room-{number}", {"n": 1})
    assert [each["cmd"] for each in broker.clients("normal")].count("publish") == 1
    assert len(broker.clients("normal")) == 2, "the other one asks"
    await sender.flush()
    await until(lambda: len(broker.clients("normal")) == 1)


# Somebody reads too slowly


class Subscriber:
    """Subscribes to a layer's group, under a name, and reads when it is told to."""

    def __init__(self, broker: Broker, layer: Any, name: str) -> None:
        self._socket = socket.create_connection((broker.server.host, broker.server.port), SECONDS)
        orders = f"CLIENT SETNAME {name}\r\nSUBSCRIBE {layer.prefix}__group__room\r\n"
        self._socket.sendall(orders.encode())
        while b"subscribe" not in self._socket.recv(1000):
            pass

    async def read(self, size: int) -> bytes:
        """So many bytes at least."""
        data = bytearray()
        while len(data) < size:
            data += await asyncio.to_thread(self._socket.recv, 1 << 20)
        return bytes(data)

    def close(self) -> None:
        self._socket.close()


Subscribe = Callable[..., Subscriber]


@pytest.fixture
def subscribe(broker: Broker) -> Iterator[Subscribe]:
    subscribers: list[Subscriber] = []

    def start(layer: Any, name: str = "") -> Subscriber:
        name = name or f"panther_channels.{layer.prefix}"
        subscribers.append(Subscriber(broker, layer, name))
        return subscribers[-1]

    yield start
    for subscriber in subscribers:
        subscriber.close()


async def burst(layer: Any) -> None:
    for number in range(COUNT):
        await layer.group_send("room", {"text": f"n{number:02d}{MB}"})


async def until_held(layer: Any) -> None:
    await until(lambda: shard_of(layer)._pace.is_held)


def questions(broker: Broker) -> int:
    return broker.calls("client|list")


async def test_redis_is_asked_once_for_a_megabyte(layer: Any, broker: Broker):
    for _ in range(350):
        await layer.group_send("room", {"text": MB[:10_000]})
    assert questions(broker) == 3


async def test_a_burst_waits_for_who_takes_it(layer: Any, broker: Broker, subscribe: Subscribe):
    subscriber = subscribe(layer)
    sending = asyncio.create_task(burst(layer))
    await until_held(layer)
    assert pace._WAITING < broker.waiting() < pace._WAITING + 2_100_000
    assert not sending.done()
    data = await subscriber.read(COUNT * len(MB))
    await asyncio.wait_for(sending, SECONDS)
    found = [data.find(f"n{number:02d}x".encode()) for number in range(COUNT)]
    assert found == sorted(found)
    assert found[0] > 0


async def test_bursts_of_many(make_redis_layer: Any, broker: Broker, subscribe: Subscribe):
    """As of many processes: Redis would cut the subscriber off at 32 MB."""
    senders = [make_redis_layer() for _ in range(4)]
    subscriber = subscribe(senders[0])
    sending = asyncio.gather(*map(burst, senders))
    await asyncio.gather(*map(until_held, senders))
    assert pace._WAITING < broker.waiting() < 16_000_000
    assert not sending.done()
    await subscriber.read(len(senders) * COUNT * len(MB))
    await asyncio.wait_for(sending, SECONDS)
    assert "closed" not in broker.server.log  # "... for overcoming of output buffer limits"


async def test_who_waits_too_long_is_told_and_the_next_goes_on(
    hasty: Any, broker: Broker, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
):
    subscribe(hasty)
    sending = [asyncio.create_task(hasty.group_send("room", {"text": MB})) for _ in range(COUNT)]
    await asyncio.wait(sending)
    failures = [error for task in sending if (error := task.exception())]
    assert 10 < len(failures) < COUNT - 4
    assert {type(error) for error in failures} == {RedisTimeoutError}
    assert "send less, one after the other" in str(failures[0])
    assert questions(broker) < 0.5 / pace._PAUSE + COUNT
    # Not an outage, after which it would wait for somebody who is gone.
    assert shard_of(hasty)._failed_at < 0
    for _ in range(5):
        await hasty.group_send("room", {"text": MB})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "More than 4 MB have been waiting" in caplog.text
    assert broker.waiting() > 8_000_000


async def test_who_has_recovered_is_waited_for_again(
    hasty: Any, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
):
    subscriber = subscribe(hasty)
    sent = 0
    with suppress(RedisTimeoutError):
        while sent < COUNT:
            await hasty.group_send("room", {"text": MB})
            sent += 1
    assert sent < COUNT
    await hasty.group_send("room", {"text": MB})
    await subscriber.read((sent + 1) * len(MB))
    sending = asyncio.create_task(burst(hasty))
    await until_held(hasty)
    await subscriber.read(COUNT * len(MB))
    await asyncio.wait_for(sending, SECONDS)
    assert len(caplog.records) == 1


async def test_others_who_listen_slow_nobody_down(layer: Any, broker: Broker, subscribe: Subscribe):
    subscribe(layer, "redis-cli")
    await asyncio.wait_for(burst(layer), shard._ANSWER)
    assert broker.waiting() > 2 * pace._WAITING


async def test_redis_may_not_tell(broker: Broker, caplog: pytest.LogCaptureFixture):
    broker.command(*["ACL", "SETUSER", "guest", "on", "nopass", "~*", "&*", "+@all", "-@dangerous"])
    url = broker.url.replace("//", "//guest:any@")
    caplog.set_level(logging.INFO)
    for _ in range(2):
        layer = RedisChannelLayer(hosts=[url])
        channel = await layer.new_channel()
        for number in range(3):
            await layer.send(channel, {"text": MB, "n": number})
        assert await numbers(layer, channel, 3) == [0, 1, 2]
        await layer.flush()
    assert len(caplog.records) == 1
    assert "CLIENT LIST" in caplog.text
    assert questions(broker) == 2, "once for each layer"


async def test_an_outage_is_what_the_message_tells(
    layer: Any, broker: Broker, subscribe: Subscribe
):
    subscribe(layer)
    sending = asyncio.create_task(burst(layer))
    await until_held(layer)
    broker.kill()
    with pytest.raises(RedisConnectionError):
        await asyncio.wait_for(sending, SECONDS)
    assert not shard_of(layer)._pace.is_held
    # Seen while Redis was asked, too: the next one waits for somebody who subscribes again.
    shard_of(layer)._failed_at = -10.0
    with pytest.raises(RedisConnectionError):
        await layer.group_send("room", {"text": MB})
    assert shard_of(layer)._failed_at > 0


async def test_a_receiver_is_found_by_its_name(layer: Any, broker: Broker):
    await layer.new_channel()
    assert [each["name"] for each in broker.clients()] == [f"panther_channels.{layer.prefix}"]


async def test_a_command_that_has_asked_says_goodbye(broker: Broker):
    """Who asks in this moment has counted it, and would wait for its answer."""
    env = {"DJANGO_SETTINGS_MODULE": "tests.project.settings", "REDIS_URL": broker.url}
    with broker.listening("*panther_channels.survey") as listener:
        done = await asyncio.to_thread(manage, "websocket", "count", env=env)
        assert (done.returncode, done.stdout.strip()) == (0, "0"), done
        heard = []
        while (message := listener.get_message(timeout=1)) is not None:
            heard.append(message["data"])
    assert [kind for each in heard for kind in (b"hello", b"ask", b"bye") if kind in each] == [
        *(b"hello", b"ask", b"bye")
    ]
