import pytest

from tests.servers import ALL_SERVERS, ServerName


@pytest.fixture(autouse=True)
def _at_full_speed(unmeasured: None) -> None:
    pass


@pytest.fixture(params=ALL_SERVERS)
def server_name(request: pytest.FixtureRequest) -> ServerName:
    """Runs the test once for each server."""
    name: ServerName = request.param
    return name
