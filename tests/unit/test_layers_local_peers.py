import time

import pytest

from tests.unit.listener import named


async def test_everybody_but_oneself(peers, listen):
    await peers.broadcast(b"0")
    listen("own")
    a, b = listen("a"), listen("b")
    await peers.broadcast(b"1")
    await peers.post(named("b"), b"2")
    await peers.post(named("nobody"), b"3")
    assert (a.read(), b.read()) == (b"1", b"12")
    assert peers.names() == {named("a"), named("b")}


async def test_without_a_directory(peers, folder):
    folder.rmdir()
    await peers.broadcast(b"1")
    await peers.post(named("a"), b"1")
    folder.mkdir(mode=0o700)


async def test_who_comes_later_is_seen(peers, listen):
    for number in range(5):  # within one step of the file system's clock
        listener = listen(str(number))
        await peers.broadcast(b"x")
        assert listener.read() == b"x"


async def test_the_directory_is_read_only_when_it_changes(peers, listen, directory, monkeypatch):
    listen("a")
    past = time.time_ns() - 10_000_000_000
    reads = []
    names = directory.names
    monkeypatch.setattr(directory, "changed", lambda: past)

    def note():
        reads.append(1)
        return names()

    monkeypatch.setattr(directory, "names", note)
    for _ in range(3):
        await peers.broadcast(b"x")
    assert len(reads) == 1
    past += 1
    await peers.broadcast(b"x")
    assert len(reads) == 2
    past = time.time_ns()  # there may be another change within the same step of that clock
    for _ in range(2):
        await peers.broadcast(b"x")
    assert len(reads) == 4


async def test_who_was_killed_is_removed(peers, listen, directory, folder):
    (folder / "gunicorn.pid").touch()
    dead, alive = listen("dead"), listen("alive")
    await peers.broadcast(b"1")
    assert alive.read() == b"1"
    dead.accept()
    dead.close()
    await peers.broadcast(b"2")
    assert alive.read() == b"2"
    assert directory.names() == {named("alive")}
    listen("other").close()
    peers.remove_dead()
    assert (folder / "gunicorn.pid").exists()
    assert directory.names() == {named("alive")}


async def test_what_cannot_be_removed_costs_nobody_else(peers, listen, directory, folder):
    """As where the directory has become read-only; not for root, so another reason is taken."""
    (folder / f"panther-{named('odd')}").mkdir()
    alive = listen("alive")
    for _ in range(2):
        await peers.broadcast(b"1")
    await peers.post(named("odd"), b"1")
    assert alive.read() == b"11"


@pytest.mark.parametrize("is_broadcast", [True, False])
async def test_who_cleans_the_directory_cuts_no_connection(peers, listen, directory, is_broadcast):
    a = listen("a")
    await peers.broadcast(b"1")
    directory.remove(named("a"))
    await (peers.broadcast(b"2") if is_broadcast else peers.post(named("a"), b"2"))
    assert a.read() == b"12"
    assert peers.names() == {named("a")}
    a.connection.close()
    a.close()
    listen("b")  # a change, at which the directory is read
    assert peers.names() == {named("b")}


@pytest.mark.parametrize("is_broadcast", [True, False])
async def test_a_socket_that_was_replaced(peers, listen, is_broadcast):
    first = listen("a")
    await peers.broadcast(b"1")
    first.accept()
    first.close()
    second = listen("a")
    await (peers.broadcast(b"2") if is_broadcast else peers.post(named("a"), b"2"))
    assert second.read() == b"2"


async def test_a_directory_that_is_not_safe(peers, listen, folder):
    listen("a")
    peers.look()
    folder.chmod(0o777)
    for call in (peers.broadcast(b"1"), peers.post(named("a"), b"1")):
        with pytest.raises(Exception, match="written to by others"):
            await call
    folder.chmod(0o700)
