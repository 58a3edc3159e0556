"""The runtime pack manifest as data: its shape, its id, and the strict reader. Touches no file.

The set of keys is closed and every one but `created_at` is required. `source_intake`, `config_digest` and
the pack id are `sha256:` and 64 hex digits; the digests of files are bare hex, as in a record's evidence.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from muniment.app.tree import paths_problem
from muniment.domain import canonical
from muniment.domain.errors import InvalidError, MunimentError, WrongError

MANIFEST = "runtime-pack-manifest.json"
MAX_MANIFEST = 16 << 20  # bytes; about 60 000 files
_OUTSIDE_ID = frozenset({"runtime_pack_id", "signatures", "created_at"})

_hex = re.compile(r"[0-9a-f]{64}").fullmatch
_digest = re.compile(r"sha256:[0-9a-f]{64}").fullmatch
_name = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}").fullmatch
_label = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,198}[\x21-\x7e])?").fullmatch


def pack_id(manifest: Mapping[str, Any]) -> str:
    """Compute the pack id: `sha256:` of the canonical manifest without its own id, signatures and
    `created_at`."""
    return canonical.digest({key: value for key, value in manifest.items() if key not in _OUTSIDE_ID})


def parse_manifest(data: bytes, limit: int = MAX_MANIFEST) -> dict[str, Any]:
    """Read a manifest; only one that is valid in every field comes back.

    Raises:
        InvalidError: too long, no JSON, a key twice, or fields that do not fit (`context["problems"]` lists
        all). WrongError: valid but for the id, which is not the id of this content.
    """
    if len(data) > limit:
        raise InvalidError(
            f"the manifest has over {limit} bytes", code="pack.manifest_size", expected=f"<= {limit}"
        )
    try:
        manifest = json.loads(
            data.decode(), object_pairs_hook=_once, parse_float=_no_float, parse_constant=_no_float
        )
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"the manifest is not JSON: {str(error)[:200]}", code="pack.manifest") from error
    if not isinstance(manifest, dict):
        raise InvalidError("the manifest is not a JSON object", code="pack.manifest")
    if problems := manifest_problems(manifest):
        raise InvalidError(f"not a pack manifest: {problems[0]}", code="pack.manifest", problems=problems)
    if (found := pack_id(manifest)) != manifest["runtime_pack_id"]:
        raise WrongError(
            "the manifest's id is not the id of its content",
            code="pack.id",
            expected=found,
            found=manifest["runtime_pack_id"],
        )
    return manifest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is there twice")
    return result


def _no_float(text: str) -> None:
    raise ValueError(f"a number that is no integer: {text[:40]}")


def manifest_problems(manifest: Mapping[str, Any]) -> list[str]:
    """Everything that does not fit, in a fixed order; [] for a valid manifest. The id's value is not
    compared."""
    try:
        canonical.check_profile(dict(manifest))
        canonical.encode_trusted(dict(manifest))
    except (MunimentError, RecursionError) as error:
        return [str(error)[:200]]
    problems = [f"{key}: missing" for key in _FIELDS if key not in manifest and key != "created_at"]
    problems += [f"{key[:64]}: unknown" for key in sorted(manifest) if key not in _FIELDS]
    for key, check in _FIELDS.items():
        if key in manifest and (problem := check(manifest[key])):
            problems.append(f"{key}: {problem}")
    return problems


Rule = Callable[[Any], str]


def _text(match: Callable[[str], object], expected: str) -> Rule:
    return lambda value: "" if isinstance(value, str) and match(value) else f"expected {expected}"


def _exactly(wanted: str) -> Rule:
    return lambda value: "" if value == wanted else f"expected {wanted!r}"


def _count(value: Any) -> str:
    return "" if type(value) is int and value >= 0 else "expected an integer from 0"


def _keys(value: Any, keys: set[str]) -> str:
    if not isinstance(value, dict):
        return "expected an object"
    return "" if set(value) == keys else f"expected exactly the keys {', '.join(sorted(keys))}"


def _compiler(value: Any) -> str:
    if problem := _keys(value, {"name", "version"}):
        return problem
    sound = all(isinstance(item, str) and _label(item) for item in value.values())
    return "" if sound else "expected printable ASCII text, at most 200 characters"


def _schema(value: Any) -> str:
    if problem := _keys(value, {"reads", "writes"}):
        return problem
    reads = value["reads"]
    if not isinstance(reads, list) or len(reads) != 2 or any(map(_count, [*reads, value["writes"]])):
        return "expected reads [lo, hi] and writes, integers from 0"
    return "" if reads[0] <= reads[1] else "reads: lo is above hi"


def _object(value: Any) -> str:
    return "" if isinstance(value, dict) else "expected an object"


def _files(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return "expected at least one file"
    for index, item in enumerate(value):
        problem = _keys(item, {"path", "role", "sha256", "blake3", "bytes"})
        if not problem:
            if not isinstance(item["path"], str):
                problem = "path: expected text"
            elif item["path"].split("/")[0] == MANIFEST:
                problem = "path: the manifest never lists itself"
            elif not (isinstance(item["role"], str) and _name(item["role"])):
                problem = "role: expected a name"
            elif any(not isinstance(item[key], str) or not _hex(item[key]) for key in ("sha256", "blake3")):
                problem = "digests: expected 64 lower-case hex digits"
            elif _count(item["bytes"]):
                problem = "bytes: expected an integer from 0"
        if problem:
            return f"[{index}] {problem}"
    problem_of_paths = paths_problem(item["path"] for item in value)
    return problem_of_paths[1] if problem_of_paths else ""


def _signature_list(value: Any) -> str:
    if not isinstance(value, list):
        return "expected a list"
    for index, item in enumerate(value):
        if problem := _keys(item, {"key_id", "alg", "signature"}):
            return f"[{index}] {problem}"
        if item["alg"] != "ed25519" or not (isinstance(item["key_id"], str) and _label(item["key_id"])):
            return f"[{index}] expected alg ed25519 and a key id"
        try:
            raw = (
                base64.b64decode(item["signature"], validate=True)
                if isinstance(item["signature"], str)
                else b""
            )
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 64:
            return f"[{index}] signature: expected base64 of 64 bytes"
    ids = [item["key_id"] for item in value]
    return "" if len(set(ids)) == len(ids) else "a key signs twice"


_FIELDS: dict[str, Rule] = {
    "manifest_version": _exactly("1"),
    "runtime_pack_id": _text(_digest, "sha256: and 64 hex digits"),
    "product": _text(_name, "a name"),
    "build_id": _text(_label, "printable ASCII text"),
    "source_intake": _text(_digest, "sha256: and 64 hex digits"),
    "compiler": _compiler,
    "config_digest": _text(_digest, "sha256: and 64 hex digits"),
    "security_epoch": _count,
    "schema": _schema,
    "compatibility": _object,
    "canonicalization": _exactly(canonical.PROFILE),
    "files": _files,
    "signatures": _signature_list,
    "created_at": _text(_label, "an instant"),
}
