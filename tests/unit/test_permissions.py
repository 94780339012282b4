import pytest

from panther_channels.permissions import BasePermission


def test_a_subclass_needs_a_call():
    class Empty(BasePermission):
        pass

    with pytest.raises(TypeError, match="__call__"):
        Empty()  # type: ignore[abstract]


async def test_a_subclass_answers():
    class Nobody(BasePermission):
        async def __call__(self, request):
            return False

    assert await Nobody()(None) is False
