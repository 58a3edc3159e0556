"""The SQLite store's public face, and what `PERSISTENCE_MODULE=muniment.store.sqlite` resolves to.

The library finds `Factory` by looking through the names of this module, so it and the library load here.
Our own commands start without it: `store.open` takes `SqliteLog` from `store.sqlite_log`.
"""

from muniment.store.dcb import Factory
from muniment.store.sqlite_log import SqliteLog

__all__ = ["Factory", "SqliteLog"]
