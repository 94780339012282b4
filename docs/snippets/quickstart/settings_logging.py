LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        "panther_channels": {"handlers": ["console"], "level": "INFO", "propagate": False},
    },
}
