"""Fills the database of the project; prints the session keys by user, as JSON."""

import json
from typing import Any

import django

django.setup()

from django.contrib.auth import (  # noqa: E402
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
)
from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402
from rest_framework_simplejwt.token_blacklist.models import (  # noqa: E402
    BlacklistedToken,
    OutstandingToken,
)
from rest_framework_simplejwt.utils import get_md5_hash_password  # noqa: E402

PEOPLE = {"alice": {}, "bob": {}, "staff": {"is_staff": True, "is_superuser": False}, "editor": {}}
DOORS = ("in_process", "daphne", "uvicorn")
# One for each: a session with an old hash is deleted by the first who looks at it.
CHANGED: dict[str, dict[str, Any]] = {f"changed-{server}": {} for server in DOORS}
# They have all that one can lose, and there is no one else in their groups.
GOING: dict[str, dict[str, Any]] = {
    f"going-{number}": {"is_staff": True} for number in range(1, 101)
}
sessions = {}

call_command("migrate", verbosity=0)
for name, fields in {**PEOPLE, "inactive": {}, **CHANGED, **GOING}.items():
    user = User.objects.create_user(name, password=f"password of {name}", **fields)
    Token.objects.create(user=user, key=f"drf-token-of-{name}")
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    sessions[name] = session.session_key
User.objects.create_superuser("root", password="password of root")
nobodys = SessionStore()
nobodys["basket"] = [1]
nobodys.save()
sessions["nobody"] = nobodys.session_key

editor = User.objects.get(username="editor")
editor.user_permissions.add(Permission.objects.get(codename="change_user"))
change, delete = (Permission.objects.get(codename=name) for name in ("change_user", "delete_user"))
for going in User.objects.filter(username__in=GOING):
    group = Group.objects.create(name=f"group of {going.username}")
    group.permissions.add(change)
    going.groups.add(group)
    going.user_permissions.add(delete)
User.objects.filter(username="inactive").update(is_active=False)
for changed in User.objects.filter(username__in=CHANGED):
    changed.set_password("another")
    changed.save()
outstanding = OutstandingToken._default_manager.create(
    jti="blacklisted", token="", expires_at="2100-01-01T00:00:00Z"
)
BlacklistedToken._default_manager.create(token=outstanding)
users = User.objects.all()
found = {
    "sessions": sessions,
    "ids": {user.username: user.pk for user in users},
    "revocations": {user.username: get_md5_hash_password(user.password) for user in users},
}
print(json.dumps(found))  # noqa: T201
