"""The PostgreSQL store's public face, and what `PERSISTENCE_MODULE=muniment.store.postgres` resolves to."""

from eventsourcing.dcb.api import DCBRecorder
from eventsourcing.persistence import InfrastructureFactoryError
from muniment.store import dcb
from muniment.store.postgres_log import PostgresLog
from muniment.store.postgres_url import is_postgres


class Factory(dcb.Factory):
    """The same in PostgreSQL; `MUNIMENT_STORE` names the database, and no folder is taken for one."""

    def dcb_recorder(self) -> DCBRecorder:
        """Open the log, or create it, and return its recorder.

        Raises:
            InfrastructureFactoryError: `MUNIMENT_STORE` is no postgresql:// URL.
            MunimentError: see `store.open.open_log` and `create_log`.
        """
        if not is_postgres(self.env.get(dcb.STORE_KEY, "")):
            raise InfrastructureFactoryError(f"{dcb.STORE_KEY} is no postgresql:// URL")
        return super().dcb_recorder()


__all__ = ["Factory", "PostgresLog"]
