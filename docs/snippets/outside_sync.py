from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from panther_channels import status
from panther_channels.sync import close_websocket_connection, send_message_to_websocket


def lost(request: HttpRequest, number: int) -> HttpResponse:
    if connection_id := cache.get(f"parcel-{number}"):
        send_message_to_websocket(connection_id, {"parcel": number, "place": "unknown"})
        close_websocket_connection(connection_id, reason="We are sorry.")
    return HttpResponse(status=status.HTTP_204_NO_CONTENT)


@transaction.atomic
def rename(user: User, name: str, connection_id: str) -> None:
    user.first_name = name
    send_message_to_websocket(connection_id, {"name": name}, on_commit=True)
    user.save()
