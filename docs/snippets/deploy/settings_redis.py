CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # rediss:// is Redis over TLS.
        "CONFIG": {"hosts": ["redis://:password@10.0.0.1:6379/0"]},
    },
}
