# SPDX-License-Identifier: Apache-2.0
"""Reads the address of an ML Metadata store: SQLite in the output folder, or a server that several runs share."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ml_metadata.proto import metadata_store_pb2

from learn2compress.schemas.errors import ConfigError

_DEFAULT_PORTS = {"mysql": 3306, "postgresql": 5432, "grpc": 8080}


def connection_config(
    address: str | None, output: Path
) -> metadata_store_pb2.ConnectionConfig | metadata_store_pb2.MetadataStoreClientConfig:
    """Convert an address to a connection configuration.

    Args:
        address: mysql://user:password@host:port/database, postgresql://…, grpc://host:port, or None for
            OUT/metadata.db.
        output: The output folder.

    Raises:
        ConfigError: The address has an unknown scheme, or has no host or no database.
    """
    if address is None:
        database = metadata_store_pb2.SqliteMetadataSourceConfig(filename_uri=str(output / "metadata.db"))
        database.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        return metadata_store_pb2.ConnectionConfig(sqlite=database)
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise ConfigError(
            f"pipeline.metadata must be an address with a port from 1 to 65535; {str(error).rstrip('.')}. Correct it."
        ) from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ConfigError(
            "pipeline.metadata must be mysql://USER:PASSWORD@HOST:PORT/DATABASE, postgresql://… or grpc://HOST:PORT; "
            f"got {parts.scheme}://{parts.hostname or ''}. Correct it, or leave it out to use SQLite."
        )
    port = port or _DEFAULT_PORTS[parts.scheme]
    if parts.scheme == "grpc":
        return metadata_store_pb2.MetadataStoreClientConfig(host=parts.hostname, port=port)
    name = parts.path.strip("/")
    if not name:
        raise ConfigError(
            f"pipeline.metadata must end in a database's name; got {parts.scheme}://{parts.hostname}. Add the name."
        )
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "mysql":
        mysql = metadata_store_pb2.MySQLDatabaseConfig(
            host=parts.hostname, port=port, database=name, user=user, password=password
        )
        return metadata_store_pb2.ConnectionConfig(mysql=mysql)
    postgresql = metadata_store_pb2.PostgreSQLDatabaseConfig(
        host=parts.hostname, port=str(port), dbname=name, user=user, password=password
    )
    return metadata_store_pb2.ConnectionConfig(postgresql=postgresql)
