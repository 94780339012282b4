CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "panther_channels.layers.RedisChannelLayer",
        # rediss:// is Redis over TLS.
        "CONFIG": {"hosts": ["redis://:password@10.0.0.1:6379/0"]},
    },
}
