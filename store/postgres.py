"""The PostgreSQL store's public face, and what `PERSISTENCE_MODULE=muniment.store.postgres` resolves to."""

from muniment.store.dcb import Factory
from muniment.store.postgres_log import PostgresLog

__all__ = ["Factory", "PostgresLog"]
