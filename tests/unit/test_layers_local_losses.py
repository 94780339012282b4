import logging
from types import SimpleNamespace

from panther_channels.layers.local import losses as _losses
from panther_channels.layers.local.losses import Losses


def test_all_are_counted_and_the_log_is_not_flooded(caplog, monkeypatch):
    now = 100.0
    monkeypatch.setattr(_losses, "time", SimpleNamespace(monotonic=lambda: now))
    losses = Losses()
    with caplog.at_level(logging.WARNING, "panther_channels"):
        losses.add("full.")
        for _ in range(10):
            losses.add("full.", 2)
        assert [record.getMessage() for record in caplog.records] == [
            "The channel layer dropped 1 message(s), 1 in all: full."
        ]
        now = 101.0
        losses.add("expired.")
    assert losses.count == 22
    assert caplog.records[-1].getMessage() == (
        "The channel layer dropped 21 message(s), 22 in all: expired."
    )
