import pytest

from tests.servers import Server, manage


def manage_site(server: Server, *arguments: str) -> None:
    """Runs a management command of a server's project, in another process."""
    done = manage(*arguments, env=server.env)
    assert done.returncode == 0, done.stderr


@pytest.fixture(autouse=True)
def _at_full_speed(unmeasured: None) -> None:
    pass
