CHANNEL_LAYERS = {"default": {"BACKEND": "panther_channels.layers.LocalChannelLayer"}}
