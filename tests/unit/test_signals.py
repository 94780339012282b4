"""Which of Django's signals tell whom; tests/integration/test_users.py has what comes of it."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest
from django.test import override_settings

from panther_channels import _signals
from panther_channels._hub.addresses import user_group

NAMES = ("by group", "directly", "both", "neither")


class People:
    """Of them some have a permission; notes who is told."""

    def __init__(self) -> None:
        self.permission = Permission.objects.get(codename="add_user")
        self.group = Group.objects.create(name="group")
        self.group.permissions.add(self.permission)
        self.users = {name: User.objects.create_user(name) for name in NAMES}
        self.names = {user_group(user): name for name, user in self.users.items()}
        self.group.user_set.add(self.users["by group"], self.users["both"])
        self.permission.user_set.add(self.users["directly"], self.users["both"])
        self.told: list[str] = []

    def note(self, groups: list[str], *_: Any) -> None:
        self.told += [self.names[group] for group in groups]

    def __getitem__(self, name: str) -> User:
        return self.users[name]


@pytest.fixture
def people(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> People:
    found = People()
    monkeypatch.setattr(_signals, "deliver_soon", found.note)
    return found


class Team(Group):
    class Meta:
        app_label = "auth"
        proxy = True


def rolled_back(people: People) -> None:
    with transaction.atomic():
        people["both"].save()
        people.group.delete()
        transaction.set_rollback(True)


def login(people: People) -> None:
    user_logged_in.send(User, request=HttpRequest(), user=people["both"])


def logout(user: str | None) -> Callable[[People], Any]:
    return lambda people: user_logged_out.send(
        User, request=None, user=None if user is None else people[user]
    )


TOLD: dict[str, tuple[Callable[[People], Any], set[str]]] = {
    "save": (lambda people: people["neither"].save(), {"neither"}),
    "save a field": (lambda people: people["both"].save(update_fields=["email"]), {"both"}),
    "delete": (lambda people: people["neither"].delete(), {"neither"}),
    "delete some": (lambda people: User.objects.filter(groups=people.group).delete(),
                    {"by group", "both"}),
    "log out": (logout("both"), {"both"}),
    "leave a group": (lambda people: people["both"].groups.clear(), {"both"}),
    "a group is left by all": (lambda people: people.group.user_set.clear(), {"by group", "both"}),
    "a group may less": (lambda people: people.group.permissions.clear(), {"by group", "both"}),
    "a group's proxy ends": (lambda people: Team.objects.get(pk=people.group.pk).delete(),
                             {"by group", "both"}),
    "a group's proxy may less": (
        lambda people: Team.objects.get(pk=people.group.pk).permissions.clear(),
        {"by group", "both"},
    ),
    "a group ends": (lambda people: people.group.delete(), {"by group", "both"}),
    "a permission is lost": (lambda people: people["both"].user_permissions.clear(), {"both"}),
    "by all groups": (lambda people: people.permission.group_set.clear(), set(NAMES[:3])),
    "by all users": (lambda people: people.permission.user_set.clear(), set(NAMES[:3])),
    "a permission ends": (lambda people: people.permission.delete(), set(NAMES[:3])),
    # What changes nobody's access, as far as anybody can tell.
    "log in": (login, set()),
    "last_login": (lambda people: people["both"].save(update_fields=["last_login"]), set()),
    "nobody logs out": (logout(None), set()),
    "a new user": (lambda people: User.objects.create_user("new"), set()),
    "a new group": (lambda people: Group.objects.create(name="new"), set()),
    "rolled back": (rolled_back, set()),
}  # fmt: skip


@pytest.mark.parametrize("what", TOLD)
def test_who_is_told(people: People, what: str):
    act, told = TOLD[what]
    act(people)
    assert set(people.told) >= told
    assert told or not people.told


@override_settings(WS_RECHECK_ACCESS=False)
def test_nobody_is_told_where_that_is_not_wanted(people: People):
    for act, _ in list(TOLD.values())[:6]:
        act(people)
    assert people.told == []


def test_no_model_is_kept_from_being_saved(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    # As a property of the project's user model may do, that asks another service.
    monkeypatch.delattr(_signals, "user_group")
    post_save.send(sender=User, instance=User(pk=1), created=False, using="default")
    (record,) = caplog.records
    assert record.getMessage() == "Whose access has changed can't be told"


def test_other_models_are_none_of_our_business():
    # Django reads each row before it deletes it, where anybody listens to that.
    assert not post_delete.has_listeners(ContentType)
    assert post_delete.has_listeners(User)
    assert post_delete.has_listeners(Session)
