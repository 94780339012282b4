CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "panther_channels.layers.LocalChannelLayer",
        "CONFIG": {"directory": "/run/project"},
    },
}
