"""The services that tests marked ``service`` need: where they are, in the usual environment variables.

``make test-services`` runs these tests; there one whose service is absent fails. Elsewhere it is skipped.
"""

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

import pytest


def _absent(what: str, error: Exception) -> None:
    text = f"{what} is not there: {error}"
    if os.environ.get("ANYMAIL_TEST_SERVICES"):
        pytest.fail(text)
    pytest.skip(text)


def postgresql() -> dict[str, Any]:
    """Django's settings of a PostgreSQL database for tests, at PGHOST, PGPORT, PGUSER and PGPASSWORD."""
    place = {
        "host": os.environ.get("PGHOST", "127.0.0.1"),
        "port": os.environ.get("PGPORT", "5432"),
        "user": os.environ.get("PGUSER", "postgres"),
        "password": os.environ.get("PGPASSWORD", ""),
    }
    name = "anymail_tests"
    try:
        import psycopg

        with psycopg.connect(**place, dbname="postgres", autocommit=True, connect_timeout=5) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(f'CREATE DATABASE "{name}"')
    except Exception as error:
        _absent("PostgreSQL", error)
    upper = {key.upper(): value for key, value in place.items()}
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name, **upper}


def redis_url() -> str:
    """A Redis at REDIS_URL. What is kept there has names of its own."""
    url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
    try:
        import redis

        redis.Redis.from_url(url, socket_connect_timeout=5).set(f"anymail-tests:{uuid4().hex}", "1", ex=1)
    except Exception as error:
        _absent("Redis", error)
    return url
