"""A disk that lost power: what may be on it, given the trace of what was asked of it.

The model, no kinder than a journalling file system (ext4 `data=ordered`), and in places harsher:

1. `fsync` or `fdatasync` of a file makes all its earlier writes and truncations durable, but not its name.
2. `fsync` of a folder makes the earlier names in it durable, but not the name of the folder itself. A rename or
   link is one act, and durable once every folder it touches has been synced. (ext4 makes all earlier names
   durable with any sync, since its journal is one; POSIX promises less, and so does this model.)
3. Of writes not yet durable each is kept, lost, or torn at the 512-byte sectors of the file: a prefix, a suffix
   or any subset of its sectors is kept. Later ones may be kept where earlier ones are lost. Bytes beside a write
   stay (SQLite's "powersafe overwrite", which every disk with whole-sector writes gives).
4. A file may be as long as its lost writes made it. What was never written inside it reads as zeros or as
   rubbish of an earlier owner.
5. Of names not yet durable each act (create, mkdir, symlink, link, rename, unlink) is kept or lost by itself, or
   the journal ends after one of them; a symlink comes with its text and a file with its mode.
6. An interrupted sync has done any of its work: that is the state before its entry.
7. The device keeps what it said it had synced; a disk that lies about a flush is beyond any software above it.

A state is made from (trace, point, seed) alone.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SECTOR = 512
_HEAD = struct.Struct("=cQqII")  # power_shim.c
ROOT = 0


class Entry(NamedTuple):
    """One call, as traced. `number` is an offset, a length or a mode."""

    op: str
    inode: int
    number: int
    one: bytes
    two: bytes


class Write(NamedTuple):
    """Bytes at an offset; or, with `data` None, a truncation to that length."""

    at: int
    data: bytes | None


class Act(NamedTuple):
    """A change of names: (folder, name, node or None if the name goes). `open` holds the folders not synced since."""

    changes: tuple[tuple[int, str, int | None], ...]
    open: set[int]


class Node:
    """A file, folder or symlink: what is durable of it, and what is not yet."""

    __slots__ = ("data", "kind", "mode", "pending", "text")

    def __init__(self, kind: str, mode: int = 0, text: str = "") -> None:
        self.kind, self.mode, self.text = kind, mode, text
        self.data = bytearray()
        self.pending: list[Write] = []


def read_trace(path: Path) -> list[Entry]:
    """Every entry of a trace; the last may be cut only if the program was killed, which no workload is."""
    data, entries, at = path.read_bytes(), [], 0
    while at < len(data):
        op, inode, number, one, two = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        entries.append(
            Entry(op.decode(), inode, number, data[at : at + one], data[at + one : at + one + two])
        )
        at += one + two
    assert at == len(data), "the trace is cut"
    return entries


class Disk:
    """The state while a trace is played; `crash` makes one of the disks that a loss of power could leave."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.names: list[Act] = []  # in order; the durable ones at its beginning are taken into `settled`
        self.settled: dict[int, dict[str, int]] = {}
        self.live: dict[int, dict[str, int]] = {}
        self._of_inode: dict[int, int] = {}

    def play(self, entry: Entry) -> None:
        """Do what one entry says."""
        op, inode, number, one, two = entry
        if op == "w":
            self._node(inode).pending.append(Write(number, one))
        elif op == "t":
            self._node(inode).pending.append(Write(number, None))
        elif op == "s":
            self._sync(self._of_inode[inode])
        elif op == "a":
            for ident in self.nodes:
                self._sync(ident)
        elif op == "o":
            self._node(inode).mode = number
        elif op in "cd":  # without a name: the root, or a file that may get one by a link
            ident = len(self.nodes)
            self.nodes[ident] = Node("file" if op == "c" else "folder", number)
            self._of_inode[inode] = ident
            if op == "d":
                self.live[ident], self.settled[ident] = {}, {}
            if one:
                self._act((*self._place(one), ident))
        elif op == "y":
            ident = len(self.nodes)
            self.nodes[ident] = Node("link", text=os.fsdecode(two))
            self._act((*self._place(one), ident))
        elif op == "u":
            self._act((*self._place(one), None))
        elif op in "lr":
            ident = self._find(one) if one else self._of_inode[inode]
            gone = ((*self._place(one), None),) if op == "r" else ()
            self._act(*gone, (*self._place(two), ident))
        else:
            assert op == "m", entry

    def _node(self, inode: int) -> Node:
        return self.nodes[self._of_inode[inode]]

    def _place(self, path: bytes) -> tuple[int, str]:
        *above, name = os.fsdecode(path).split("/")
        at = ROOT
        for part in above:
            at = self.live[at][part]
        return at, name

    def _find(self, path: bytes) -> int:
        at, name = self._place(path)
        return self.live[at][name]

    def _act(self, *changes: tuple[int, str, int | None]) -> None:
        self.names.append(Act(changes, {folder for folder, _, _ in changes}))
        _change(self.live, changes)

    def _sync(self, ident: int) -> None:
        node = self.nodes[ident]
        for write in node.pending:
            _apply(node.data, write)
        node.pending.clear()
        for act in self.names:
            act.open.discard(ident)
        while self.names and not self.names[0].open:
            _change(self.settled, self.names.pop(0).changes)

    def open_names(self) -> int:
        """How many acts on names are not durable yet."""
        return sum(1 for act in self.names if act.open)

    def open_writes(self) -> int:
        """How many writes are not durable yet."""
        return sum(len(node.pending) for node in self.nodes.values())

    # --- after the loss

    def crash(self, seed: object, where: Path) -> str:
        """Write one possible disk below `where` (absent); return how it came about, for the message of a failure."""
        chance = random.Random(repr(seed))
        writes = chance.choice(["lost", "kept", "ordered", "some", "some", "few", "most", "late"])
        names = chance.choice(["lost", "kept", "ordered", "some", "some"])
        rubbish = chance.random() < 0.5
        tree = {ident: dict(entries) for ident, entries in self.settled.items()}
        end = chance.randrange(len(self.names) + 1)
        for index, act in enumerate(self.names):
            kept = {"lost": False, "kept": True, "ordered": index < end, "some": chance.random() < 0.5}[names]
            if kept or not act.open:
                _change(tree, act.changes)
        contents = self._contents(chance, writes, rubbish=rubbish)
        self._write(where, tree, contents)
        return f"writes {writes}, names {names}, {'rubbish' if rubbish else 'zeros'}"

    def whole(self, where: Path) -> None:
        """Write the disk as the program saw it last."""
        contents = {ident: _with(node.data, node.pending) for ident, node in self.nodes.items()}
        self._write(where, self.live, contents)

    def _contents(self, chance: random.Random, way: str, *, rubbish: bool) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for ident, node in self.nodes.items():
            if not node.pending:
                found[ident] = bytes(node.data)
                continue
            end = chance.randrange(len(node.pending) + 1)
            kept: list[Write] = []
            for index, write in enumerate(node.pending):
                share = {
                    "lost": 0.0,
                    "kept": 1.0,
                    "ordered": 1.0 if index < end else 0.5 if index == end else 0.0,
                    "late": 1.0 if index >= end else 0.0,
                    "some": 0.5,
                    "few": 0.1,
                    "most": 0.9,
                }[way]
                kept += _survives(chance, write, share)
            size = max(len(node.data), *(w.at + len(w.data or b"") for w in node.pending))
            data = _with(node.data, kept)
            if chance.random() < 0.5 and size > len(data) and way not in {"lost", "kept"}:
                data += bytes(size - len(data))
            if rubbish:
                data = _rubbish(chance, node.data, kept, data)
            found[ident] = data
        return found

    def _write(self, where: Path, tree: dict[int, dict[str, int]], contents: dict[int, bytes]) -> None:
        first: dict[int, Path] = {}

        def place(ident: int, path: Path) -> None:
            node = self.nodes[ident]
            if node.kind == "folder":
                path.mkdir()
                for name, child in tree[ident].items():
                    place(child, path / name)
                path.chmod(node.mode & 0o777)
            elif node.kind == "link":
                path.symlink_to(node.text)
            elif ident in first:
                os.link(first[ident], path)
            else:
                path.write_bytes(contents[ident])
                path.chmod(node.mode & 0o777)
                first[ident] = path

        place(ROOT, where)


def _change(tree: dict[int, dict[str, int]], changes: tuple[tuple[int, str, int | None], ...]) -> None:
    for folder, name, ident in changes:
        if ident is None:
            tree[folder].pop(name, None)
        else:
            tree[folder][name] = ident


def _apply(data: bytearray, write: Write) -> None:
    at, new = write
    if new is None:
        if at < len(data):
            del data[at:]
        else:
            data.extend(bytes(at - len(data)))
        return
    if at > len(data):
        data.extend(bytes(at - len(data)))
    data[at : at + len(new)] = new


def _with(data: bytearray, writes: list[Write]) -> bytes:
    copy = bytearray(data)
    for write in writes:
        _apply(copy, write)
    return bytes(copy)


def _sectors(write: Write) -> Iterator[Write]:
    """A write cut where the sectors of the file end."""
    assert write.data is not None
    at, left = write.at, memoryview(write.data)
    while left:
        size = min(SECTOR - at % SECTOR, len(left))
        yield Write(at, bytes(left[:size]))
        at, left = at + size, left[size:]


def _survives(chance: random.Random, write: Write, share: float) -> list[Write]:
    """What is left of one write: all, nothing or some of its sectors."""
    roll = chance.random()
    if roll >= share:
        torn = share > 0 and roll < share + 0.15
    else:
        torn = share < 1 and roll > share * 0.6
        if not torn:
            return [write]
    if not torn or write.data is None:
        return []
    sectors = list(_sectors(write))
    cut, way = chance.randrange(len(sectors) + 1), chance.randrange(3)
    if way == 0:
        return sectors[:cut]
    if way == 1:
        return sectors[cut:]
    return [sector for sector in sectors if chance.random() < 0.5]


def _rubbish(chance: random.Random, durable: bytearray, kept: list[Write], data: bytes) -> bytes:
    """Fill what nobody wrote: past the durable end, between the writes that were kept."""
    written = bytearray(len(data))
    written[: len(durable)] = b"\1" * min(len(durable), len(data))
    for at, new in kept:
        if new is not None:
            written[at : at + len(new)] = (b"\1" * len(new))[: max(0, len(data) - at)]
    filled = bytearray(data)
    at = written.find(0)
    while at >= 0:
        end = written.find(1, at)
        end = len(data) if end < 0 else end
        filled[at:end] = chance.randbytes(end - at)
        at = written.find(0, end)
    return bytes(filled)
