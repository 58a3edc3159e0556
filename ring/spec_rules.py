"""Bytes to a `Spec`, or every problem in them at once. Rules of rings are here, of lane graphs in `spec_graph`.

Order of work, cheapest first: lines, keys, values, then what values mean together. A rule whose values are bad is not asked, so
that one cause gives one problem. The codes are stable; `ops/decisions/0018-spec-keys.md` lists them with their rules.
"""

from __future__ import annotations

from typing import Any

from muniment.domain.errors import InvalidError
from muniment.ring import spec_lines, spec_text
from muniment.ring.spec import (
    MAX_BYTES,
    MAX_CAPACITY,
    MAX_SHARDS,
    MAX_SLOT_BYTES,
    MAX_STAGES,
    ON_FULL,
    ORDERINGS,
    VERSION,
    WAITS,
    LaneGraph,
    SingleRing,
    Spec,
    Stage,
)
from muniment.ring.spec_fields import Fields
from muniment.ring.spec_graph import read_graph
from muniment.ring.spec_lines import Problem, shown
from muniment.ring.spec_ops import FIELD_RULE, field_fault

MODELS = ("single_ring", "lane_graph")


def parse(data: bytes, name: str, *, canonical: bool = False) -> Spec:
    """Read a spec.

    Args:
        name: what to call the bytes in messages, a path mostly.
        canonical: refuse a spec that is not written in its canonical form.

    Raises:
        InvalidError: its code is that of the first problem; `context["problems"]` has all, in the order of lines, code first.
    """
    spec, problems = check(data, canonical=canonical)
    if spec is None:
        raise invalid(name, problems)
    return spec


def check(data: bytes, *, canonical: bool = False) -> tuple[Spec | None, list[Problem]]:
    """The spec and no problems, or None and all problems in the order of lines."""
    fields = Fields(spec_lines.read(data))
    spec = _spec(fields) if fields.readable else None
    if spec is not None and not fields.problems:
        _form(fields, spec, data, demanded=canonical)
    problems = sorted(fields.problems, key=lambda item: item.line)
    return (None, problems) if problems else (spec, [])


def name_of(data: bytes) -> str:
    """The name that a spec gives itself, whatever else is wrong with it; "" if it is none."""
    return Fields(spec_lines.read(data)).name("spec.name") or ""


def invalid(name: str, problems: list[Problem]) -> InvalidError:
    """The error that carries these problems."""
    first = problems[0]
    count = f" (the first of {len(problems)} problems)" if len(problems) > 1 else ""
    return InvalidError(
        f"{first.code}: {name}, line {first.line}: {first.message}{count}",
        code=first.code,
        hint="mend it, then: muniment validate --spec F",
        expected=first.expected,
        found=first.found,
        problems=[str(item) for item in problems],
    )


def _spec(fields: Fields) -> Spec | None:
    version = fields.choice("spec.version", (VERSION,), code="spec.version_unsupported")
    if version is None and fields.given("spec.version"):
        return None  # the keys of another version have another meaning
    name = fields.name("spec.name")
    model = fields.choice("spec.model", MODELS, code="spec.model_unknown")
    fields.unknown(model)
    pipeline: SingleRing | LaneGraph | None = None
    if model is not None:
        pipeline = _read_ring(fields) if model == "single_ring" else read_graph(fields)
    return Spec(name, pipeline) if name is not None and pipeline is not None else None


def _form(fields: Fields, spec: Spec, data: bytes, *, demanded: bool) -> None:
    """What is said of a valid spec's bytes."""
    canonical = spec_text.canonical(spec)
    if len(canonical) > MAX_BYTES:
        fields.say(
            "kv.syntax",
            1,
            "too large in its canonical form",
            f"at most {MAX_BYTES} bytes",
            str(len(canonical)),
        )
    if not demanded or canonical == data:
        return
    wanted, given = canonical.decode().split("\n"), data.decode().split("\n")
    line = next(
        (at for at, pair in enumerate(zip(wanted, given, strict=False)) if pair[0] != pair[1]),
        min(len(wanted), len(given)) - 1,
    )
    expected = shown(wanted[line]) if wanted[line] or line + 1 < len(wanted) else "the end of the file"
    found = shown(given[line]) if given[line] or line + 1 < len(given) else "the end of the file"
    if expected == found:
        expected, found = "a line end (LF)", "the end of the file"
    fields.say("kv.not_canonical", line + 1, "not the canonical form", expected, found)


# -- one ring ------------------------------------------------------------------------------------------------------------


def _read_ring(fields: Fields) -> SingleRing | None:
    at = "single_ring."
    shards = _shards(fields)
    ordering = fields.choice(at + "ordering", ORDERINGS, default="strict")
    values: dict[str, Any] = {
        "shards": shards,
        "ordering": ordering,
        "shard_key": _shard_key(fields, shards, ordering),
        "producer": fields.choice(
            at + "producer", ("single", "multi"), code="ring.producer_unsupported", default="single"
        ),
        "scheduling": fields.choice(
            at + "scheduling", ("dedicated",), code="ring.scheduling_unsupported", default="dedicated"
        ),
        "capacity": fields.capacity(at + "capacity", 1024, MAX_CAPACITY),
        "slot_bytes": fields.number(at + "slot_bytes", 256, 1, MAX_SLOT_BYTES),
        "on_full": fields.choice(at + "on_full", ON_FULL, default="block"),
        "wait": fields.choice(at + "wait", WAITS, default="backoff"),
    }
    stages = _stages(fields)
    if None in values.values() or stages is None:
        return None
    return SingleRing(stages, **values)


def _shards(fields: Fields) -> int | None:
    key = "single_ring.shards"
    shards = fields.number(key, 1, 0, MAX_SHARDS)
    if shards == 0:
        fields.say("ring.shards_zero", fields.line(key), f"{key} is zero", f"1 to {MAX_SHARDS}", "0")
        return None
    return shards


def _shard_key(fields: Fields, shards: int | None, ordering: str | None) -> str | None:
    key = "single_ring.shard_key"
    value = fields.text(key) if fields.given(key) else ""
    if value is not None and fields.given(key) and field_fault(value):
        fields.say(
            "kv.bad_value", fields.line(key), f"{key} is no path in a JSON object", FIELD_RULE, shown(value)
        )
        value = None
    if ordering == "strict" and shards is not None and shards > 1:
        line = fields.line(
            "single_ring.ordering" if fields.given("single_ring.ordering") else "single_ring.shards"
        )
        message = "messages of several shards have no common order"
        fields.say(
            "ring.ordering_needs_one_shard",
            line,
            message,
            "shards=1, or ordering=per_key",
            f"shards={shards}",
        )
    elif ordering == "per_key" and not fields.given(key):
        message = "ordering=per_key needs the member that picks the shard"
        fields.say("ring.shard_key_missing", fields.line("single_ring.ordering"), message, f"{key}=<field>")
    elif ordering == "strict" and value:
        fields.say(
            "ring.shard_key_unused",
            fields.line(key),
            "one strictly ordered shard has no key",
            "ordering=per_key",
        )
    return value


def _stages(fields: Fields) -> tuple[Stage, ...] | None:
    prefix = "single_ring.stages"
    first = fields.steps(prefix, MAX_STAGES, "ring.too_many_stages")
    if not first and not fields.any(prefix):
        fields.say(
            "ring.no_stages", fields.last, "the ring has no stages", f"{prefix}.0.id=… and {prefix}.0.op=…"
        )
    stages: list[Stage] = []
    ids: dict[str, int] = {}
    for index, line in first.items():
        at = f"{prefix}.{index}"
        name = fields.name(f"{at}.id", at=line)
        op = fields.op(f"{at}.op", at=line)
        depends = _depends(fields, f"{at}.depends_on", index)
        if name is not None and ids.setdefault(name, index) != index:
            other = f"stage {ids[name]} has it"
            fields.say(
                "stage.duplicate_id",
                fields.line(f"{at}.id"),
                f"id {name} is given again; {other}",
                "another id",
            )
        if index > 0 and op is not None and op.name != "identity" and not fields.given(f"{at}.depends_on"):
            message = f"stage {index} must say which stages it follows"
            fields.say(
                "stage.dependency_missing",
                fields.line(f"{at}.op"),
                message,
                f"{at}.depends_on=0",
                str(op)[:40],
            )
        if name is not None and op is not None:
            stages.append(Stage(name, op, depends))
    return tuple(stages)


def _depends(fields: Fields, key: str, index: int) -> tuple[int, ...]:
    numbers = fields.indices(key)
    line = fields.line(key)
    if index in numbers:
        fields.say(
            "stage.self_dependency", line, f"stage {index} waits for itself", "earlier stages", str(index)
        )
    later = [str(number) for number in dict.fromkeys(numbers) if number > index]
    if later:
        expected = f"0 to {index - 1}" if index else "none: the first stage waits for the producer"
        fields.say(
            "stage.forward_dependency",
            line,
            f"stage {index} waits for later ones",
            expected,
            ",".join(later)[:80],
        )
    if sorted(set(numbers)) != numbers:
        found = ",".join(map(str, numbers))[:80]
        fields.say(
            "stage.dependency_order",
            line,
            f"{key} must increase",
            ",".join(map(str, sorted(set(numbers))))[:80],
            found,
        )
    return tuple(numbers)
