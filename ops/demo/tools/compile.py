"""Compile an atlas input folder to the files of a runtime pack: `compile.py INPUT OUTPUT`.

OUTPUT must not exist or be empty. It gets `countries.tsv` (sorted by code), `lookup.json` (every code, name, capital and alias,
folded, with its country) and `SOURCE.md`. Nothing of the machine or the hour enters, so equal input gives equal bytes. Exit 0:
compiled. Exit 1: the input has no single meaning (a name that leads to two countries). Exit 2: it could not be read or written.
"""

import csv
import json
import sys
import unicodedata
from pathlib import Path

FIELDS = ["alpha2", "alpha3", "numeric", "name", "capital", "region"]


def fold(text: str) -> str:
    """Fold a name for lookup: no accents, no case, single blanks. `probe.py` folds its question in the same way."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return " ".join(plain.casefold().split())


def read(path: Path) -> list[dict[str, str]]:
    """Read a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def index(countries: list[dict[str, str]], aliases: list[dict[str, str]]) -> dict[str, str]:
    """Every folded name with its country."""
    names = [(row[field], row["alpha2"]) for row in countries for field in FIELDS[:5]]
    names += [(row["alias"], row["alpha2"]) for row in aliases]
    found: dict[str, str] = {}
    for name, code in names:
        if not fold(name):
            raise ValueError(f"a name of {code} is empty")
        if found.setdefault(fold(name), code) != code:
            raise ValueError(f"{name!r} leads to {found[fold(name)]} and to {code}")
    return found


def compile_input(source: Path, target: Path) -> int:
    """Write the output folder and return the number of names."""
    countries = sorted(read(source / "countries.csv"), key=lambda row: row["alpha2"])
    if len({row["alpha2"] for row in countries}) != len(countries):
        raise ValueError("a code stands twice")
    names = index(countries, read(source / "aliases.csv"))
    table = "".join("\t".join(row[field] for field in FIELDS) + "\n" for row in countries)
    lookup = {"format": "atlas-lookup/1", "names": names}
    files = {
        "SOURCE.md": (source / "SOURCE.md").read_bytes(),
        "countries.tsv": ("\t".join(FIELDS) + "\n" + table).encode(),
        "lookup.json": (json.dumps(lookup, ensure_ascii=False, indent=0, sort_keys=True) + "\n").encode(),
    }
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty")
    for name, data in files.items():
        (target / name).write_bytes(data)
    return len(names)


def main(arguments: list[str]) -> int:
    """Compile one folder."""
    if len(arguments) != 2:
        sys.stderr.write("usage: compile.py INPUT OUTPUT\n")
        return 2
    try:
        names = compile_input(Path(arguments[0]), Path(arguments[1]))
    except (OSError, UnicodeDecodeError, KeyError, TypeError, csv.Error) as error:
        sys.stderr.write(f"cannot compile {arguments[0]}: {error!r}\n")
        return 2
    except ValueError as error:
        sys.stderr.write(f"cannot compile {arguments[0]}: {error}\n")
        return 1
    sys.stdout.write(f"compiled {names} names\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
