"""API descriptions that others wrote: read where they are present, and turned into calls and responses.

They are looked for in the folder that the environment variable ANYMAIL_API_DESCRIPTIONS names, or in ``shared/api``
beside the repository.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from anymail.wire import Response

ROOT = Path(os.environ.get("ANYMAIL_API_DESCRIPTIONS") or Path(__file__).parents[2].parent / "shared" / "api")


@cache
def read(name: str) -> Any:
    """A description in JSON or YAML; None where it is not present."""
    path = ROOT / name
    if not path.exists():
        return None
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)


class Description:
    """An OpenAPI description.

    ``values`` are good values where it has no example, by name; ``least`` what an object must have though it does not
    say so, by the name of the object or of the array that it is in.
    """

    def __init__(self, name: str, values: Mapping[str, Any], least: Mapping[str, dict[str, Any]] | None = None) -> None:
        self.content = read(name) or {"paths": {}}
        self.values = values
        self.least = least or {}
        # Whether objects are made with all their properties, as responses have them.
        self.whole = False

    def operation(self, path: str) -> dict[str, Any]:
        return dict(self.content["paths"].get(path, {}).get("post", {}))

    def resolved(self, schema: Any) -> dict[str, Any]:
        """A schema without its references and ``allOf``."""
        schema = dict(schema)
        while "$ref" in schema:
            target: Any = self.content
            for step in schema.pop("$ref").split("/")[1:]:
                target = target[step.replace("~1", "/")]
            schema = {**target, **schema}
        for part in schema.pop("allOf", ()):
            part = self.resolved(part)
            properties = {**schema.get("properties", {}), **part.get("properties", {})}
            required = [*schema.get("required", ()), *part.get("required", ())]
            schema = {**part, **schema}
            if properties:
                schema |= {"properties": properties, "required": required}
        return schema

    def bodies(self, path: str) -> Iterator[dict[str, Any]]:
        """The schemas of an operation's body: one for each alternative."""
        body = self.resolved(self.operation(path).get("requestBody", {}))
        for content in body.get("content", {}).values():
            schema = self.resolved(content["schema"])
            yield from map(self.resolved, schema.get("oneOf", [schema]))

    def fields(self, schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Each property of an object's schema with each kind of value that it may have."""
        for name, child in schema.get("properties", {}).items():
            for value in self.variants(child, name):
                yield name, value

    def variants(self, schema: Any, name: str, depth: int = 0) -> Iterator[Any]:
        """Values of a schema: each alternative, each item of an enumeration, each property of an object, null."""
        schema = self.resolved(schema)
        # Beside properties they only say which of those must be there.
        alternatives = [] if "properties" in schema else [*schema.get("oneOf", ()), *schema.get("anyOf", ())]
        kinds = schema.get("type", "object" if "properties" in schema else None)
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if schema.get("nullable") or "null" in kinds:
            yield None
        if alternatives:
            for alternative in alternatives:
                yield from self.variants(alternative, name, depth)
        elif "enum" in schema:
            yield from (value for value in schema["enum"] if value is not None)
        elif "object" in kinds:
            yield from self._objects(schema, name, depth)
        elif "array" in kinds:
            if name in self.values and isinstance(self.values[name], list):
                yield self.values[name]
            else:
                for value in self.variants(schema.get("items", {"type": "string"}), name, depth + 1):
                    if value is not None:
                        yield [value]
        elif name in self.values:
            yield self.values[name]
        else:
            yield self._scalar(schema, kinds)

    def _objects(self, schema: dict[str, Any], name: str, depth: int) -> Iterator[Any]:
        if name in self.values:
            yield self.values[name]
            return
        properties = schema.get("properties", {})
        least = dict(self.least.get(name, {})) or {
            key: next(value for value in self.variants(properties[key], key, depth + 1) if value is not None)
            for key in (properties if self.whole else schema.get("required", ()))
            if key in properties
        }
        yield least or ({} if properties else self._map(schema))
        if depth > 6:
            return
        for key, child in properties.items():
            for value in self.variants(child, key, depth + 1):
                yield {**least, key: value}

    def _map(self, schema: dict[str, Any]) -> dict[str, Any]:
        values = schema.get("additionalProperties")
        if not isinstance(values, dict):
            return {"name": "text"}
        return {"name": next(self.variants(values, "value", 5))}

    def _scalar(self, schema: dict[str, Any], kinds: list[str]) -> Any:
        for word in ("example", "default"):
            if schema.get(word) is not None:
                return schema[word]
        if schema.get("examples"):
            return schema["examples"][0]
        if "boolean" in kinds:
            return True
        if "integer" in kinds or "number" in kinds:
            return schema.get("minimum", 1)
        return {"email": "ana@example.net", "uuid": "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"}.get(
            schema.get("format", ""), "text"
        )

    def responses(self, path: str) -> Iterator[tuple[str, Response]]:
        """The responses of an operation, by the examples that there are, and otherwise by the schema."""
        self.whole = True
        for status, described in self.operation(path).get("responses", {}).items():
            content = self.resolved(described).get("content", {})
            if not content:
                yield status, Response(int(status))
            for kind, media in content.items():
                examples = [example["value"] for example in map(self.resolved, media.get("examples", {}).values())]
                if "example" in media:
                    examples.append(media["example"])
                schema = self.resolved(media.get("schema", {}))
                if not examples and "example" in schema:
                    examples.append(schema["example"])
                found = dict.fromkeys(map(json.dumps, examples or self.variants(schema, "response")))
                for number, example in enumerate(found):
                    yield f"{status}-{number}", Response(int(status), {"Content-Type": kind}, example.encode())


# API Blueprint.

_BLOCK = re.compile(r"^\+ (Request|Response)(?: (\d+))?[^\n]*\n(.*?)(?=^\+ (?:Request|Response)|\Z)", re.M | re.S)


def blueprint(name: str, *headings: str) -> Iterator[tuple[str, int | None, Any]]:
    """The requests (status None) and responses with JSON under these headings, each with its heading."""
    path = ROOT / name
    text = path.read_text() if path.exists() else ""
    for heading in headings:
        match = re.search(rf"^### {re.escape(heading)}.*?(?=^#{{1,3}} |\Z)", text, re.M | re.S)
        for word, status, block in _BLOCK.findall(match[0] if match else ""):
            body = block.partition("+ Body")[2] or block
            # The examples have commas that JSON does not allow.
            found = re.search(r"\{.*\}", body, re.S)
            if found:
                content = re.sub(r",(\s*[}\]])", r"\1", found[0])
                yield heading, None if word == "Request" else int(status), json.loads(content)


def recorded(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Recorded calls: each with ``request`` and ``response``."""
    for path in sorted((ROOT / folder).glob("*.yaml")):
        for number, interaction in enumerate(yaml.safe_load(path.read_text())["interactions"]):
            yield f"{path.stem}-{number}", interaction
