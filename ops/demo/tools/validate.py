"""Check an atlas input folder and write a JUnit XML report: `validate.py INPUT REPORT`.

The exit code says whether the tool ran, the report says what it found. Exit 0: the report is written, read it for the
verdict. Exit 2: the input could not be read, no report is written and one of an earlier run is removed.
"""

import csv
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

COUNTRY = ["alpha2", "alpha3", "numeric", "name", "capital", "region"]
ALIAS = ["alias", "alpha2", "kind"]
REGIONS = {"Africa", "Americas", "Asia", "Europe", "Oceania"}
KINDS = {"former", "official", "own", "short"}
FORMS = {"alpha2": "[A-Z]{2}", "alpha3": "[A-Z]{3}", "numeric": "[0-9]{3}"}

Row = dict[str, str]


def read(path: Path, header: list[str]) -> list[Row]:
    """Read a table; every row gets its line number as `line`, absent and extra cells show in `cells`."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        found = next(reader, [])
        if found != header:
            raise ValueError(f"{path.name}: header {found}, expected {header}")
        rows = []
        for cells in reader:
            row = dict(zip(header, [*cells, *[""] * len(header)], strict=False))
            rows.append(row | {"line": str(reader.line_num), "cells": str(len(cells))})
    return rows


def repeated(rows: list[Row], field: str) -> Iterator[str]:
    """Name each row whose value stands in an earlier row."""
    seen: dict[str, str] = {}
    for row in rows:
        first = seen.setdefault(row[field].casefold(), row["line"])
        if first != row["line"]:
            yield f"line {row['line']}: {field} {row[field]!r} stands on line {first} already"


def empty(rows: list[Row], fields: list[str]) -> Iterator[str]:
    """Name each empty cell."""
    for row in rows:
        for field in fields:
            if not row[field].strip():
                yield f"line {row['line']}: {row.get('name') or row.get('alias')}: no {field}"


def shaped(rows: list[Row], fields: int) -> Iterator[str]:
    """Name each row with too few or too many cells, or with blanks around a value."""
    for row in rows:
        if row["cells"] != str(fields):
            yield f"line {row['line']}: {row['cells']} cells, expected {fields}"
        for value in row.values():
            if value != value.strip():
                yield f"line {row['line']}: blanks around {value!r}"


def well_formed(countries: list[Row]) -> Iterator[str]:
    """Name each code that has not the form of its kind."""
    for row in countries:
        for field, form in FORMS.items():
            if not re.fullmatch(form, row[field]):
                yield f"line {row['line']}: {field} {row[field]!r} is not {form}"


def listed(rows: list[Row], field: str, known: set[str]) -> Iterator[str]:
    """Name each value that is not in a closed list."""
    for row in rows:
        if row[field] not in known:
            yield f"line {row['line']}: {field} {row[field]!r} is not known here"


def shadowing(countries: list[Row], aliases: list[Row]) -> Iterator[str]:
    """Name each alias that is a name or capital of another country."""
    own = {row[field].casefold(): row["alpha2"] for row in countries for field in ("capital", "name")}
    for row in aliases:
        if own.get(row["alias"].casefold(), row["alpha2"]) != row["alpha2"]:
            yield f"line {row['line']}: {row['alias']!r} is a name of {own[row['alias'].casefold()]}"


def checks(folder: Path) -> dict[str, Callable[[], Iterator[str]]]:
    """The cases of the report, each a function that yields its findings."""
    countries = read(folder / "countries.csv", COUNTRY)
    aliases = read(folder / "aliases.csv", ALIAS)
    source = (folder / "SOURCE.md").read_text(encoding="utf-8")
    codes = {row["alpha2"] for row in countries}
    return {
        "source.named": lambda: iter(() if source.strip() else ("SOURCE.md is empty",)),
        "countries.some": lambda: iter(() if countries else ("no row",)),
        "countries.shape": lambda: shaped(countries, len(COUNTRY)),
        "countries.complete": lambda: empty(countries, COUNTRY),
        "countries.codes_well_formed": lambda: well_formed(countries),
        "countries.alpha2_unique": lambda: repeated(countries, "alpha2"),
        "countries.alpha3_unique": lambda: repeated(countries, "alpha3"),
        "countries.numeric_unique": lambda: repeated(countries, "numeric"),
        "countries.name_unique": lambda: repeated(countries, "name"),
        "countries.region_known": lambda: listed(countries, "region", REGIONS),
        "aliases.shape": lambda: shaped(aliases, len(ALIAS)),
        "aliases.complete": lambda: empty(aliases, ALIAS),
        "aliases.unique": lambda: repeated(aliases, "alias"),
        "aliases.kind_known": lambda: listed(aliases, "kind", KINDS),
        "aliases.country_known": lambda: listed(aliases, "alpha2", codes),
        "aliases.not_shadowing": lambda: shadowing(countries, aliases),
    }


def report(results: dict[str, list[str]]) -> str:
    """The report; without times, so equal input gives equal bytes."""
    failed = sum(1 for findings in results.values() if findings)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name="atlas.input" tests="{len(results)}" failures="{failed}" errors="0" skipped="0">',
    ]
    for name, findings in results.items():
        case = f'  <testcase classname="atlas.input" name={quoteattr(name)}'
        if findings:
            lines.append(f"{case}><failure message={quoteattr('; '.join(findings))}/></testcase>")
        else:
            lines.append(f"{case}/>")
    return "\n".join([*lines, "</testsuite>", ""])


def main(arguments: list[str]) -> int:
    """Validate one folder."""
    if len(arguments) != 2:
        sys.stderr.write("usage: validate.py INPUT REPORT\n")
        return 2
    folder, target = Path(arguments[0]), Path(arguments[1])
    target.unlink(missing_ok=True)
    try:
        results = {name: list(check()) for name, check in checks(folder).items()}
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(report(results).encode())
    except (OSError, ValueError, csv.Error) as error:
        sys.stderr.write(f"cannot validate {folder}: {error}\n")
        return 2
    failed = [name for name, findings in results.items() if findings]
    sys.stdout.write(f"{len(results)} checks, {len(failed)} failed\n")
    for name in failed:
        sys.stdout.writelines(f"FAIL {name}: {finding}\n" for finding in results[name])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
