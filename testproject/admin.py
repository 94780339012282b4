"""The admin of the demo site, by which notifications are sent."""

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from panther_channels import sync
from testproject.models import Notification


@admin.register(Notification)
class NotificationAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # not at run time
    """Sends the selected ones to all tabs of their users, once the transaction is through."""

    list_display = ("text", "user", "sent_at")
    actions = ("send",)

    def _may(self, request: HttpRequest, obj: Any = None) -> bool:
        return True  # all who are let into the admin: that is staff

    has_module_permission = has_view_permission = _may
    has_add_permission = has_change_permission = _may

    @admin.action(description="Send the selected notifications")
    @transaction.atomic
    def send(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for notification in queryset:
            notification.sent_at = timezone.now()
            notification.save()
            news = {"notifications": [notification.as_json()]}
            sync.send_message_to_user(notification.user_id, news, on_commit=True)
