"""Settings that lead a project's mail through Anymail. All that differs between machines is in the environment."""

import json
import os
from pathlib import Path
from typing import Any

import django

DEBUG = os.environ.get("DEBUG") == "1"
SECRET_KEY = os.environ.get("SECRET_KEY", "for this example only")
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")
ROOT_URLCONF = "example.urls"
USE_TZ = True
DEFAULT_FROM_EMAIL = "Café Zoë <shop@example.com>"

# "anymail" brings the system checks: `manage.py check` tells what is wrong with the settings below.
INSTALLED_APPS = ["anymail", "example"]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", Path(__file__).parent / "example.sqlite3"),
        # Webhooks come several at a time: wait for each other instead of failing.
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=wal; PRAGMA synchronous=normal;",
        },
    }
}

# The ESP: "postmark", "mailgun", "amazon_ses"... Without one, mail is printed.
EMAIL_ESP = os.environ.get("EMAIL_ESP", "console")
BACKEND = f"anymail.backends.{EMAIL_ESP}.EmailBackend"
if django.VERSION >= (6, 1):
    # More mailers may stand beside the default one: message.send(using="newsletters").
    MAILERS = {"default": {"BACKEND": BACKEND}}
else:
    EMAIL_BACKEND = BACKEND


def _from_environment(prefix: str) -> dict[str, Any]:
    """``ANYMAIL_POSTMARK_SERVER_TOKEN=...`` becomes ``{"POSTMARK_SERVER_TOKEN": ...}``; lists and dicts are in JSON."""
    found: dict[str, Any] = {}
    for name, text in os.environ.items():
        if name.startswith(prefix):
            value: Any = text
            if text in ("true", "false", "null") or text[:1] in ("[", "{"):
                try:
                    value = json.loads(text)
                except ValueError:
                    value = text
            found[name.removeprefix(prefix)] = value
    return found


# All of Anymail's settings. You may as well write them out; docs/settings.md has the list. The usual ones:
#
# ANYMAIL = {
#     # What your ESP gave you. Each ESP has its own names.
#     "POSTMARK_SERVER_TOKEN": os.environ["POSTMARK_SERVER_TOKEN"],
#     # The part before the @ in the webhook URLs that you set at the ESP:
#     # https://user:password@www.example.com/anymail/postmark/tracking/
#     # Without it, and without a signing key of the ESP's, anyone can call your webhooks.
#     "WEBHOOK_SECRET": "user:password",
#     # What every message has unless it says otherwise.
#     "SEND_DEFAULTS": {"tags": ["shop"]},
# }
ANYMAIL = _from_environment("ANYMAIL_")

# A template that you have stored at the ESP: a number, a name or a UUID, as the ESP has it.
TEMPLATE_ID = os.environ.get("TEMPLATE_ID", "")

# How the ESP marks a merge field in a text, as a str.format pattern: this is {{name}}.
MERGE_FIELD = os.environ.get("MERGE_FIELD", "{{{{{}}}}}")
