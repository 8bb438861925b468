"""What the sandbox keeps: the calls it got and the deliveries in them, in SQLite."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable
from typing import Any

from anymail.esps.kit.sandbox import SandboxDelivery
from anymail.wire import Request, Response

_TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP, esp TEXT, method TEXT, url TEXT,
    request BLOB, status INTEGER, response BLOB);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY, call INTEGER REFERENCES calls, esp TEXT, message_id TEXT, recipient TEXT, content TEXT);
CREATE INDEX IF NOT EXISTS deliveries_by_message ON deliveries (message_id, recipient);
"""


class Store:
    """An embedded database; ``path`` is a file, or ``:memory:``."""

    def __init__(self, path: str = ":memory:") -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.executescript(_TABLES)

    def add(self, esp: str, request: Request, response: Response, deliveries: Iterable[SandboxDelivery]) -> None:
        with self._lock, self._database:
            call = self._database.execute(
                "INSERT INTO calls (esp, method, url, request, status, response) VALUES (?, ?, ?, ?, ?, ?)",
                (esp, request.method, request.url, bytes(request.body), response.status_code, response.content),
            ).lastrowid
            self._database.executemany(
                "INSERT INTO deliveries (call, esp, message_id, recipient, content) VALUES (?, ?, ?, ?, ?)",
                [(call, esp, each.message_id, each.recipient, json.dumps(each.as_dict())) for each in deliveries],
            )

    def deliveries(self, esp: str | None = None, message_id: str | None = None) -> list[tuple[str, SandboxDelivery]]:
        """The deliveries kept, oldest first, each with its ESP's slug."""
        with self._lock:
            rows = self._database.execute(
                "SELECT esp, content FROM deliveries "
                "WHERE esp = coalesce(?, esp) AND message_id = coalesce(?, message_id) ORDER BY id",
                (esp, message_id),
            ).fetchall()
        return [(slug, SandboxDelivery(**json.loads(content))) for slug, content in rows]

    def calls(self) -> list[dict[str, Any]]:
        """The calls kept, oldest first."""
        with self._lock:
            rows = self._database.execute("SELECT at, esp, method, url, status FROM calls ORDER BY id").fetchall()
        return [dict(zip(("at", "esp", "method", "url", "status"), row, strict=True)) for row in rows]

    def clear(self) -> None:
        with self._lock, self._database:
            self._database.executescript("DELETE FROM deliveries; DELETE FROM calls;")

    def close(self) -> None:
        with self._lock:
            self._database.close()
