"""Operations of stages and roles: their names, and what each argument must be.

`guard`, `http_post` and `exec` are known, so a spec that names them is valid; an executor without them refuses to run it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from muniment.domain.reference import NAME
from muniment.ring.spec import Op
from muniment.ring.spec_lines import SHOWN, shown

MAX_FIELD_NAMES = 16  # JS_NAMES
MAX_FIELD_BYTES = 512  # JS_TEXT: path and value together
FIELD_RULE = f"1 to {MAX_FIELD_NAMES} names joined by dots, at most {MAX_FIELD_BYTES} bytes with the value"
_name = re.compile(NAME).fullmatch
_schema = re.compile(rf"{NAME}(/[1-9][0-9]{{0,5}})?").fullmatch
_place = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?").fullmatch
Fault = tuple[str, str, str, str]


def field_fault(field: str, value: str = "") -> bool:
    """Is this no path of names that a JSON text can be asked for?"""
    names = field.split(".")
    return (
        not all(names)
        or len(names) > MAX_FIELD_NAMES
        or len((field + value).encode()) > MAX_FIELD_BYTES
        or "=" in field
    )


def _filter(argument: str) -> str:
    field, equals, value = argument.partition("=")
    return (
        "" if equals and not field_fault(field, value) else f"filter:<field>=<value>, the field {FIELD_RULE}"
    )


def _url(argument: str) -> str:
    wanted = "http_post:http://HOST/… or https://, without blanks and without user and password (a spec is recorded)"
    try:
        parts = urlsplit(argument)
        good = parts.scheme in ("http", "https") and parts.port != 0 and _place(parts.netloc) is not None
    except ValueError:
        return wanted
    return "" if good and not re.search(r"\s", argument) else wanted


def _path(argument: str) -> str:
    wanted = "sink:file:<path of a file>"
    return wanted if argument.rpartition("/")[2] in ("", ".", "..") else ""


# How an op is spelled -> what is expected instead of this argument, "" if it is good. None: it takes no argument.
_OPS: dict[str, Callable[[str], str] | None] = {
    "identity": None,
    "count": None,
    "digest": None,
    "filter": _filter,
    "schema": lambda text: "" if _schema(text) else "schema:<name> or schema:<name>/<version>",
    "sink:log": None,
    "sink:file": _path,
    "python": lambda text: "" if _name(text) else "python:<registered name>",
    "guard": lambda text: "" if _name(text) else "guard:<policy>",
    "http_post": _url,
    "exec": lambda text: "" if text.partition("|")[0].strip() else "exec:PROGRAM|ARG|…",
}
NAMES = tuple(_OPS)


def read_op(text: str) -> Op | Fault:
    """The op, or code, message, expected and found of what is wrong with it."""
    first, colon, rest = text.partition(":")
    name, argument = first, rest
    if first == "sink":
        second, colon, argument = rest.partition(":")
        name = f"sink:{second}"
    if name not in _OPS:
        return "stage.unknown_op", "no such op", " ".join(NAMES), shown(text)
    check = _OPS[name]
    wanted = (f"{name} alone" if colon else "") if check is None else check(argument)
    if wanted:
        return "stage.bad_argument", f"{name[:SHOWN]} cannot have this argument", wanted, shown(text)
    return Op(name, argument)
