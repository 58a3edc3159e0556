"""A tiny runtime over one pack folder: `probe.py PACK` reports health, `probe.py PACK QUERY` answers one question.

It only reads: which pack is active is not its business, and it says which one it read. Health asks the questions
that users really asked (`queries.csv` beside this file). HEALTHY: all answered right. DEGRADED: some. UNHEALTHY: none,
or the pack cannot be read.
Exit 0: HEALTHY, or an answer. Exit 1: anything else. Exit 2: wrong usage.
"""

import csv
import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

MANIFEST = "runtime-pack-manifest.json"


def fold(text: str) -> str:
    """Fold a question as `compile.py` folds names."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return " ".join(plain.casefold().split())


class Atlas:
    """One pack in memory."""

    def __init__(self, folder: Path) -> None:
        lookup = json.loads((folder / "lookup.json").read_text(encoding="utf-8"))
        if lookup["format"] != "atlas-lookup/1":
            raise ValueError(f"lookup.json has format {lookup['format']!r}, this runtime reads atlas-lookup/1")
        self.names: dict[str, str] = lookup["names"]
        with (folder / "countries.tsv").open(encoding="utf-8", newline="") as file:
            self.rows = {row["alpha2"]: row for row in csv.DictReader(file, delimiter="\t")}
        manifest = folder / MANIFEST
        self.pack = ""
        if manifest.exists():
            self.pack = str(json.loads(manifest.read_text(encoding="utf-8"))["runtime_pack_id"])

    def ask(self, query: str) -> dict[str, str] | None:
        """The country that a code, name, capital or alias leads to."""
        return self.rows.get(self.names.get(fold(query), ""))


def health(folder: Path, queries: Path) -> dict[str, Any]:
    """Ask every known question. Signals are the wrong answers; no clock enters, so a report can be repeated."""
    with queries.open(encoding="utf-8", newline="") as file:
        known = list(csv.DictReader(file))
    if not known:
        raise ValueError(f"{queries.name} asks nothing")
    try:
        atlas = Atlas(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        signal = {"name": "load", "expected": "a readable pack", "observed": repr(error)}
        return {"status": "UNHEALTHY", "pack": "", "asked": 0, "wrong": 0, "signals": [signal]}
    wrong = []
    for row in known:
        answer = atlas.ask(row["query"])
        observed = answer["alpha2"] if answer else "no answer"
        if observed != row["alpha2"]:
            wrong.append({"name": f"lookup {row['query']}", "expected": row["alpha2"], "observed": observed})
    status = "HEALTHY" if not wrong else "DEGRADED" if len(wrong) < len(known) else "UNHEALTHY"
    return {"status": status, "pack": atlas.pack, "asked": len(known), "wrong": len(wrong), "signals": wrong}


def main(arguments: list[str]) -> int:
    """Report health or answer."""
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: probe.py PACK [QUERY]\n")
        return 2
    folder = Path(arguments[0])
    if len(arguments) == 1:
        result = health(folder, Path(__file__).with_name("queries.csv"))
        sys.stdout.write(json.dumps(result, ensure_ascii=False, sort_keys=True) + "\n")
        return 0 if result["status"] == "HEALTHY" else 1
    try:
        atlas = Atlas(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"cannot read pack {folder}: {error!r}\n")
        return 1
    answer = atlas.ask(arguments[1])
    sys.stdout.write(json.dumps({"pack": atlas.pack, "answer": answer}, ensure_ascii=False, sort_keys=True) + "\n")
    return 0 if answer else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
