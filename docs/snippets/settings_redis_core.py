CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            # Without "socket_timeout": None, redis-py gives up while the layer waits for messages.
            "hosts": [{"address": "redis://127.0.0.1:6379", "socket_timeout": None}],
            # Messages that may wait for all connections of a process; the default is 100.
            "capacity": 10_000,
        },
    },
}
