CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "panther_channels.layers.RedisChannelLayer",
        "CONFIG": {
            "hosts": [
                {
                    "sentinels": [("10.0.0.1", 26379), ("10.0.0.2", 26379), ("10.0.0.3", 26379)],
                    # redis-py asks a sentinel that is down eleven times before it asks the next.
                    "sentinel_kwargs": {"retry": None, "socket_connect_timeout": 1},
                    "master_name": "mymaster",
                    "password": "password",
                },
            ],
        },
    },
}
