import socket

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "panther_channels.layers.RedisChannelLayer",
        "CONFIG": {
            "hosts": [
                {
                    "address": "redis://10.0.0.1:6379",
                    # When Redis is silent: ask after 5 seconds, give up after 10.
                    "socket_keepalive": True,
                    "socket_keepalive_options": {
                        socket.TCP_KEEPIDLE: 5,
                        socket.TCP_KEEPINTVL: 2,
                        socket.TCP_KEEPCNT: 3,
                        socket.TCP_USER_TIMEOUT: 10_000,
                    },
                },
            ],
        },
    },
}
