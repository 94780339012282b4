CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "panther_channels.layers.RedisChannelLayer",
        "CONFIG": {"hosts": ["redis://127.0.0.1:6379"], "prefix": "staging"},
    }
}
