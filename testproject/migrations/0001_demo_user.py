"""A user to log in with, where the site is a developer's own."""

from typing import Any

from django.apps.registry import Apps
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def add_demo_user(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    if settings.DEBUG:  # everybody knows the password
        users: Any = apps.get_model("auth", "User")
        using = users.objects.using(editor.connection.alias)
        using.get_or_create(username="demo", defaults={"password": make_password("demo")})


class Migration(migrations.Migration):
    dependencies = (("auth", "0012_alter_user_first_name_max_length"),)
    operations = (migrations.RunPython(add_demo_user, migrations.RunPython.noop),)
