import pytest

from panther_channels.authentications import BaseAuthentication


def test_a_subclass_needs_a_call():
    class Empty(BaseAuthentication):
        pass

    with pytest.raises(TypeError, match="__call__"):
        Empty()  # type: ignore[abstract]


async def test_a_subclass_answers():
    class Alice(BaseAuthentication):
        async def __call__(self, request):
            return "alice"

    assert await Alice()(None) == "alice"
