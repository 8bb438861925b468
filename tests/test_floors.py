"""What the import contracts cannot say: ESPs read no settings, and importing a backend stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import anymail
from anymail.esps import REGISTRY

ROOT = Path(anymail.__file__).parent


def imported(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "esps").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_esps_read_no_settings(path: Path) -> None:
    assert not {name for name in imported(path) if name.startswith(("django.conf", "django.core.cache", "django.db"))}


def test_every_folder_is_registered() -> None:
    folders = {path.parent.name for path in (ROOT / "esps").glob("*/sending.py")} - {"kit"}
    assert folders == set(REGISTRY)
    assert list(REGISTRY) == sorted(REGISTRY)


@pytest.mark.parametrize("slug", REGISTRY)
def test_importing_a_backend_imports_nothing_heavy(slug: str) -> None:
    heavy = {"botocore", "cryptography", "jsonschema", "aiohttp", "requests", "stamina", "urllib3"}
    code = f"import sys, anymail.backends.{slug}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not heavy & set(shown.split())
