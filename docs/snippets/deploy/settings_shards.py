CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "panther_channels.layers.RedisChannelLayer",
        "CONFIG": {"hosts": ["redis://10.0.0.1:6379", "redis://10.0.0.2:6379"]},
    },
}
