"""Evidence against the records: each named file is there and right, each manifest's files too, and nothing else lies about."""

from __future__ import annotations

from typing import Any

import msgspec
from muniment.app.verify_report import FAIL, SKIPPED, Check, Finding
from muniment.domain.errors import MunimentError, WrongError
from muniment.store.evidence import EvidenceStore, Problem

MANIFEST_ROLES = ("intake-manifest", "outputs-manifest", "pack-manifest")
MAX_MANIFEST = 64 << 20  # bytes; a manifest is read whole

_decode = msgspec.json.Decoder().decode


class EvidencePass:
    """Collects what records name during the pass over the records; `finish` looks at what else is there."""

    def __init__(self, checks: dict[str, Check], evidence: EvidenceStore) -> None:
        self._checks = checks
        self._evidence = evidence
        self._seen: dict[bytes, tuple[str, int]] = {}
        self.files = 0
        self.bytes = 0

    def record(self, position: int, entries: Any) -> None:
        """Check every file a record names, each content once."""
        for index, entry in enumerate(entries or ()):
            field = f"evidence[{index}]"
            try:
                good = self._file("evidence.present", position, field, entry)
            except (KeyError, TypeError, ValueError, MunimentError) as error:
                self._fail(
                    "evidence.present", position, field, "role, digests and size of a file", str(error)[:200]
                )
                continue
            if good and entry.get("role") in MANIFEST_ROLES:
                self._manifest(position, field, entry["blake3"])

    def _file(self, check: str, position: int, field: str, entry: dict[str, Any]) -> bool:
        """True if the file is there and right and was not looked at before."""
        address, digest, size = entry["blake3"], entry["sha256"], entry["bytes"]
        key = bytes.fromhex(address)
        if (known := self._seen.get(key)) is not None:
            if known != (digest, size):
                self._fail(
                    check,
                    position,
                    field,
                    f"sha256 {known[0]}, {known[1]} bytes",
                    f"sha256 {digest}, {size} bytes",
                )
            return False
        self._seen[key] = (digest, size)
        problem = self._evidence.check(address, digest, size)
        if problem is None:
            self.files += 1
            self.bytes += size
            return True
        self._problem(check, position, field, problem)
        return False

    def _problem(self, check: str, position: int | None, field: str, problem: Problem) -> None:
        if problem.exit_code == SKIP_EXIT:
            self._checks[check].leave(SKIPPED, f"{problem.blake3}: {problem.found}")
            return
        self._fail(
            check, position, field, problem.expected, problem.found, f"{problem.code}: {problem.blake3}"
        )

    def _manifest(self, position: int, field: str, address: str) -> None:
        try:
            manifest = _decode(self._evidence.read(address, limit=MAX_MANIFEST))
            for entry in manifest["files"]:
                self._file("evidence.manifests", position, f"{field}.files[{entry['path']}]", entry)
            if (
                "archive" in manifest
            ):  # what the files of an intake were taken out of is kept too (app.intake, rule 3)
                self._file("evidence.manifests", position, f"{field}.archive", manifest["archive"])
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError, MunimentError) as error:
            self._fail(
                "evidence.manifests", position, field, "a manifest with files", str(error)[:200], address
            )

    def finish(self) -> dict[str, int]:
        """Hash what no record names, and report it as information (settled.md, 11); a wrong or foreign file is a finding."""
        orphans = size = 0
        check = "evidence.folder"
        try:
            for stored in self._evidence.iter():
                if bytes.fromhex(stored.blake3) in self._seen:
                    continue
                try:
                    size += self._evidence.blob(stored.blake3).bytes
                    orphans += 1
                except WrongError as error:
                    expected, found = str(error.context["expected"]), str(error.context["found"])
                    self._fail(check, None, stored.blake3, expected, found)
            for path in self._evidence.strays():
                self._fail(check, None, path, "files under their own digest", "something else")
        except MunimentError as error:
            self._checks[check].leave(SKIPPED, str(error))
        if orphans and self._checks[check].verdict != FAIL:
            self._checks[check].detail = f"{orphans} files that no record names, {size} bytes"
        return {"files": self.files, "bytes": self.bytes, "orphans": orphans, "orphan_bytes": size}

    def _fail(
        self, check: str, position: int | None, field: str, expected: str, found: str, detail: str = ""
    ) -> None:
        self._checks[check].fail(Finding(expected, found, position, field, detail))


SKIP_EXIT = 8
