"""What the demo site keeps: what was said in its rooms, and notifications of its users."""

from typing import Any

from django.conf import settings
from django.db import models

MAX_ROOM_NAME = 40


class Message(models.Model):
    """Something that was said in a room."""

    objects: Any = models.Manager()

    room = models.CharField(max_length=MAX_ROOM_NAME, db_index=True)
    sender = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    text = models.TextField()

    def __str__(self) -> str:
        return self.text

    def as_json(self) -> dict[str, Any]:
        """What the page is told."""
        return {"id": self.pk, "sender": self.sender.get_username(), "text": self.text}


class Notification(models.Model):
    """Something that a user is to know; the admin has an action that sends it."""

    objects: Any = models.Manager()

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    text = models.CharField(max_length=200)
    sent_at = models.DateTimeField(null=True, editable=False)

    def __str__(self) -> str:
        return self.text

    def as_json(self) -> dict[str, Any]:
        """What the page is told."""
        return {"id": self.pk, "text": self.text}
