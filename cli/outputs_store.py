"""The shape of `data` of the outputs of `store`."""

from __future__ import annotations

from muniment.cli.outputs_shapes import BOOL, COUNT, INSTANT, TEXT, WORDS, Shape, either_null, obj, rows

_WRONG = rows(obj(check=TEXT, position=either_null(COUNT), field=TEXT, expected=TEXT, found=TEXT))
_HEAD: dict[str, Shape] = {
    "store_id": TEXT,
    "kind": TEXT,
    "size": COUNT,
    "root": TEXT,
    "recorded_at": INSTANT,
    "checkpoints": WORDS,
    "wrong": _WRONG,
}
_COPIED: dict[str, Shape] = {
    **_HEAD,
    "from_": TEXT,
    "to": TEXT,
    "begun": COUNT,
    "later": COUNT,
    "evidence": obj(files=COUNT, bytes=COUNT, copied=COUNT, shared=BOOL),
    "finished": BOOL,
}

STORE_OBJECTS: dict[str, Shape] = {
    "store.copy/1": obj(**_COPIED),
    "store.backup/1": obj(**_COPIED, made_at=INSTANT, digest=TEXT),
    "store.restore/1": obj(**_COPIED),
    "store.restore.check/1": obj(
        **_HEAD, made_at=INSTANT, muniment=TEXT, evidence=obj(files=COUNT, bytes=COUNT)
    ),
}
STORE_OBJECTS_ALONE: dict[str, Shape] = {
    "store.migrate/1": obj(
        store=TEXT,
        found=COUNT,
        version=COUNT,
        dry_run=BOOL,
        acts=rows(obj(what=TEXT, statements=WORDS)),
        wanting=WORDS,
    ),
}
