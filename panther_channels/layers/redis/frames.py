"""What comes over the channel of a node: for whom it is, and a payload.

The payload is what channels_redis makes of a message, encrypted where there are keys. The name is
in the clear, as the names of all channels of Redis are.
"""

import msgpack


def pack(name: str, payload: bytes) -> bytes:
    """A frame for the channel of a node.

    Args:
        name: of a channel of the node, or of the group of one of its connections.
        payload: the message, packed.
    """
    frame: bytes = msgpack.packb((name, payload))
    return frame


def unpack(frame: bytes) -> tuple[str, bytes]:
    """The name and the payload of a frame.

    Raises:
        ValueError: it is none.
    """
    try:
        name, payload = msgpack.unpackb(frame)
    except TypeError as error:  # it is a number, or has a key that none can be
        raise ValueError(str(error)) from None
    if not isinstance(name, str) or not isinstance(payload, bytes):
        raise ValueError("a frame is a name and a payload")  # noqa: TRY004 - of what came
    return name, payload
