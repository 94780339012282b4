"""What is kept, and two users more where the site is a developer's own: one of them is staff."""

from typing import Any

from django.apps.registry import Apps
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

ID: Any = {"primary_key": True, "serialize": False, "auto_created": True}


def add_demo_users(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    if settings.DEBUG:  # everybody knows the passwords
        users: Any = apps.get_model("auth", "User")
        for name in ("ada", "staff"):
            known = {"password": make_password(name), "is_staff": name == "staff"}
            users.objects.using(editor.connection.alias).get_or_create(
                username=name, defaults=known
            )


class Migration(migrations.Migration):
    dependencies = (
        ("testproject", "0001_demo_user"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    )
    operations = (
        migrations.CreateModel(
            name="Message",
            fields=[
                ("id", models.BigAutoField(verbose_name="ID", **ID)),
                ("room", models.CharField(max_length=40, db_index=True)),
                ("text", models.TextField()),
                ("sender", models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)),
            ],
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                ("id", models.BigAutoField(verbose_name="ID", **ID)),
                ("text", models.CharField(max_length=200)),
                ("sent_at", models.DateTimeField(null=True, editable=False)),
                ("user", models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)),
            ],
        ),
        migrations.RunPython(add_demo_users, migrations.RunPython.noop),
    )
