import time
from pathlib import Path

import pytest

from panther_channels.layers._directory import Directory
from panther_channels.layers._losses import Losses
from panther_channels.layers._queues import Queues


@pytest.fixture
def queues(directory: Directory, losses: Losses) -> Queues:
    return Queues(directory, 60, losses)


def test_in_order_and_once(queues, folder, losses):
    other = Queues(Directory(folder), 60, losses)
    assert queues.take("tasks") is None
    for number in range(20):
        assert (queues, other)[number % 2].put("tasks", b"%d" % number, 100)
    taken = [(queues, other)[number % 3 == 0].take("tasks") for number in range(20)]
    assert taken == [b"%d" % number for number in range(20)]
    assert queues.take("tasks") is other.take("tasks") is None
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_somebody_else_is_faster(queues, folder, monkeypatch):
    queues.put("tasks", b"1", 9)
    queues.put("tasks", b"2", 9)
    rename = Path.rename

    def slow(self, target):
        monkeypatch.setattr(Path, "rename", rename)
        self.unlink()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", slow)
    assert queues.take("tasks") == b"2"


def test_names_are_no_paths(queues, folder):
    for channel in (".", "..", "a.b"):
        assert queues.put(channel, channel.encode(), 9)
        assert queues.take(channel) == channel.encode()
        queues.group_add("..", channel)
    assert sorted(queues.members("..")) == [".", "..", "a.b"]
    assert sorted(path.name for path in folder.iterdir()) == [".panther-groups", ".panther-queues"]


def test_capacity(queues):
    assert queues.put("a", b"1", 1)
    assert not queues.put("a", b"2", 1)
    assert queues.put("b", b"1", 1)
    queues.take("a")
    assert queues.put("a", b"2", 1)


def test_expiry(queues, folder, losses, monkeypatch):
    queues.put("a", b"1", 9)
    queues.put("a", b"2", 9)
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 61_000_000_000)
    queues.put("a", b"3", 1)
    assert losses.count == 2
    assert queues.take("a") == b"3"
    assert queues.take("a") is None


def test_groups(queues):
    assert queues.members("g") == []
    queues.group_add("g", "a")
    queues.group_add("g", "a")
    assert queues.members("g") == ["a"]
    queues.group_discard("g", "a")
    queues.group_discard("g", "a")
    assert queues.members("g") == []


def test_flush(queues):
    queues.flush()
    queues.put("a", b"1", 9)
    queues.group_add("g", "a")
    queues.flush()
    assert queues.take("a") is None
    assert queues.members("g") == []
