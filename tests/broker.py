"""A Redis of one test, and all that can become of it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from redis import Redis

from tests.servers import RedisServer, suspended


class Broker:
    """A redis-server, which may go away and come back at the same address.

    Args:
        start: starts a redis-server, with a `port`.
    """

    def __init__(self, start: Callable[..., RedisServer]) -> None:
        self._start = start
        self.server = start()
        self.url = self.server.url

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        """Start it again, empty but for what it has saved."""
        self.server = self._start(port=self.server.port)

    def restart(self) -> None:
        self.kill()
        self.start()

    def silent(self) -> AbstractContextManager[None]:
        """It does nothing for a while, and its connections stay."""
        return suspended(self.server)

    def command(self, *arguments: object) -> Any:
        with Redis(host=self.server.host, port=self.server.port) as client:
            return client.execute_command(*arguments)

    def cut(self, kind: str = "pubsub") -> None:
        """Hang up on its subscribers, or on all others ("normal")."""
        self.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def pause(self, milliseconds: int) -> None:
        """Answer nobody for a while."""
        self.command("CLIENT", "PAUSE", milliseconds)

    def channels(self, pattern: str = "*") -> list[str]:
        """To which anybody is subscribed."""
        return sorted(name.decode() for name in self.command("PUBSUB", "CHANNELS", pattern))

    def clients(self, kind: str = "pubsub") -> list[dict[str, str]]:
        with Redis(host=self.server.host, port=self.server.port) as client:
            found: list[dict[str, str]] = client.client_list(_type=kind)
            return found

    def waiting(self) -> int:
        """Bytes for the subscribers."""
        return sum(int(each["omem"]) for each in self.clients())

    def calls(self, command: str) -> int:
        """How often it was asked for a command, whether or not it has refused it."""
        with Redis(host=self.server.host, port=self.server.port) as client:
            found = client.info("commandstats").get(f"cmdstat_{command}", {})
        return int(found.get("calls", 0)) + int(found.get("rejected_calls", 0))

    @contextmanager
    def listening(self, pattern: str) -> Iterator[Any]:
        """A stranger who hears what is sent over channels."""
        with Redis(host=self.server.host, port=self.server.port) as client:
            listener = client.pubsub()
            listener.psubscribe(pattern)
            assert listener.get_message(timeout=5)["type"] == "psubscribe"
            yield listener
            listener.close()
