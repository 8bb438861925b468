from __future__ import annotations

from django.db import models


class LogEntry(models.Model):
    """One line of the delivery log. Lines are only ever added: an event may come before its message is logged."""

    at = models.DateTimeField(auto_now_add=True)
    esp = models.CharField(max_length=40)
    message_id = models.CharField(max_length=250, blank=True, db_index=True)
    recipient = models.CharField(max_length=320, db_index=True)
    #: What was done: "send" or "event".
    kind = models.CharField(max_length=10)
    #: A status or an event type: "queued", "delivered", "bounced"...
    what = models.CharField(max_length=20)
    detail = models.TextField(blank=True)

    def __str__(self) -> str:
        return f"{self.recipient}: {self.what}"


class Suppressed(models.Model):
    """An address that gets no more mail."""

    address = models.CharField(max_length=320, unique=True)
    reason = models.CharField(max_length=20)
    since = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.address} ({self.reason})"
