"""Actors: the uid names the user, nothing else does."""

from __future__ import annotations

import os
import pwd
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muniment.app.actor import Actor, key_actor, map_name, os_actor
from muniment.domain.errors import InvalidError

FORM = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def test_environment_never_names_an_actor(monkeypatch) -> None:
    expected = os_actor()
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "SUDO_USER", "HOME"):
        monkeypatch.setenv(name, "mallory")
    assert os_actor() == expected
    assert expected.auth == "os"
    assert expected.id == map_name(pwd.getpwuid(os.getuid()).pw_name)


def test_uid_without_entry() -> None:
    def none(uid: int) -> str:
        raise KeyError(uid)

    assert os_actor(uid=lambda: 1234, name_of=none) == Actor("uid-1234", "human", "os")


@pytest.mark.parametrize("name", ["alice", "svc.build-1", "0x", "a" * 64])
def test_fitting_name_stands(name) -> None:
    assert map_name(name) == name


@pytest.mark.parametrize(
    "name", ["Alice", "a b", "DOMAIN\\bob", "-x", "", "a" * 65, "uid-0", "bob@x.org", "żółw", "a\n", "\udcff"]
)
def test_other_name_is_folded(name) -> None:
    assert FORM.fullmatch(map_name(name))
    assert map_name(name) != name
    assert map_name(name) == map_name(name)


@given(st.text(max_size=80), st.text(max_size=80))
def test_two_names_are_two_actors(one, other) -> None:
    assert (one == other) == (map_name(one) == map_name(other))


@pytest.mark.parametrize(
    ("name", "kind", "auth"),
    [
        ("", "human", "os"),
        ("Alice", "human", "os"),
        ("a\n", "human", "os"),
        ("a", "robot", "os"),
        ("a", "human", ""),
        ("a", "human", "flag"),
        ("a", "human", "ed25519:"),
        ("a", "human", "ed25519:0123456789ABCDEF"),
        ("a", "human", "os "),
    ],
)
def test_actor_of_another_shape(name, kind, auth) -> None:
    with pytest.raises(InvalidError):
        Actor(name, kind, auth)


def test_key_actor_as_record() -> None:
    expected = {"id": "alice", "kind": "agent", "auth": "ed25519:0123456789abcdef"}
    assert expected == key_actor("alice", "0123456789abcdef", "agent").as_record()
