# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from learn2compress.lineage.mlmd.address import connection_config
from learn2compress.schemas.errors import ConfigError


def test_connection_config_is_sqlite_in_the_output_folder_by_default():
    assert connection_config(None, Path("out")).sqlite.filename_uri == "out/metadata.db"


def test_connection_config_reads_user_password_port_and_database():
    found = connection_config("mysql://u:p%40ss@db:3307/runs", Path("out")).mysql

    assert (found.user, found.password, found.host, found.port, found.database) == ("u", "p@ss", "db", 3307, "runs")


@pytest.mark.parametrize("address", ["grpc://host:8080", "grpc://host"])
def test_connection_config_takes_grpc_with_its_default_port(address):
    assert connection_config(address, Path("out")).port == 8080


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("mysql://host:99999/db", r"port from 1 to 65535; Port out of range 0-65535"),
        ("grpc://host:x", r"port from 1 to 65535; Port could not be cast"),
        ("mysql://[::1/db", r"port from 1 to 65535; Invalid IPv6 URL"),
        ("ftp://host", r"must be mysql://.*; got ftp://host"),
        ("mysql://host", r"must end in a database's name; got mysql://host"),
    ],
)
def test_connection_config_refuses_in_one_line(address, message):
    with pytest.raises(ConfigError, match=message):
        connection_config(address, Path("out"))
