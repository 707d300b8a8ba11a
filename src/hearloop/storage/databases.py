"""Databases of other services on the platform's Postgres server."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from hearloop.errors import ConfigurationError, ServiceUnavailable

__all__ = ["BESIDE_OURS", "create_databases"]

BESIDE_OURS: Final = ("mlflow", "feast")
"""Databases of the services that k8s/ runs on the same server."""


def create_databases(url: str, names: Iterable[str] = BESIDE_OURS) -> None:
    """Create databases on the server of `url` unless they exist.

    Raises ConfigurationError for a server that has none (SQLite), or that does not let us, and
    ServiceUnavailable.
    """
    server = make_url(url)
    if server.get_backend_name() != "postgresql":
        raise ConfigurationError(
            f"{server.get_backend_name()} keeps one database in a file; only Postgres has several: "
            "set HEARLOOP_DATABASE_URL."
        )
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            there = set(connection.scalars(text("SELECT datname FROM pg_database")))
            for name in names:
                if name not in there:
                    quoted = engine.dialect.identifier_preparer.quote(name)
                    connection.execute(text(f"CREATE DATABASE {quoted}"))
    except OperationalError as error:
        raise ServiceUnavailable(
            f"The database server {server.host} did not answer: {error.orig}; check "
            "HEARLOOP_DATABASE_URL and that it runs."
        ) from error
    except ProgrammingError as error:
        raise ConfigurationError(
            f"The database server {server.host} refused to create a database: {error.orig}; the "
            "user of HEARLOOP_DATABASE_URL needs the right CREATEDB."
        ) from error
    finally:
        engine.dispose()
