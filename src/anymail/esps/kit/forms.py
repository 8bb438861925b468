"""Form posts as bytes, for what ESPs post as forms: fields in any charset, files under any name, mail of any size.

Django's own reading of forms is limited by settings that are about a site's visitors, decodes every field in one
charset, takes a form that was cut off for whole, and drops files whose names are empty or odd.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple
from urllib.parse import parse_qsl

from django.core.files.uploadedfile import InMemoryUploadedFile
from django.http import HttpRequest, QueryDict
from django.utils.datastructures import MultiValueDict
from django.utils.http import parse_header_parameters

from anymail.exceptions import AnymailWebhookValidationFailure

__all__ = ["MULTIPART", "URLENCODED", "CutOffForm", "Form", "Part", "form_of"]

MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"

# A parsed mail has a field for each of its headers and a file for each of its attachments.
_MOST_PARTS = 20_000
_LONGEST_PART_HEADER = 16 * 1024


class CutOffForm(AnymailWebhookValidationFailure):
    """A form that ends before its closing boundary: what is missing may be the half of an attachment."""


class Part(NamedTuple):
    """One field or file of a form."""

    name: str
    content: bytes
    #: None for a field; may be empty for a file.
    filename: str | None = None
    #: Without its parameters; empty where there is none.
    content_type: str = ""
    charset: str | None = None


class Form:
    """The parts of a form, in their order."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self._last = {part.name: part for part in parts}

    def __contains__(self, name: str) -> bool:
        return name in self._last

    def get(self, name: str) -> bytes | None:
        """The content of the last part of that name; None where there is none."""
        part = self._last.get(name)
        return None if part is None else part.content

    def fields(self, encoding: str) -> QueryDict:
        """What Django has in ``request.POST``."""
        fields = QueryDict(mutable=True, encoding=encoding)
        for part in self.parts:
            if part.filename is None:
                fields.appendlist(part.name, part.content.decode(encoding, "replace"))
        fields._mutable = False
        return fields

    def files(self) -> MultiValueDict[str, InMemoryUploadedFile]:
        """What Django has in ``request.FILES``; a file without a name has None for it."""
        files: MultiValueDict[str, InMemoryUploadedFile] = MultiValueDict()
        for part in self.parts:
            if part.filename is not None:
                files.appendlist(part.name, part_as_file(part))
        return files


def part_as_file(part: Part) -> InMemoryUploadedFile:
    """A part as Django has uploaded files; where its name is none that a file can have, it has no name."""
    name = "".join(filter(str.isprintable, re.split(r"[/\\]", part.filename or "")[-1]))
    return InMemoryUploadedFile(
        BytesIO(part.content),
        part.name,
        None if name in ("", ".", "..") else name,
        part.content_type,
        len(part.content),
        part.charset,
    )


def form_of(request: HttpRequest) -> Form:
    """The form that a request's body is; without any part where its content type is no form's.

    Raises CutOffForm for one that is not whole, AnymailWebhookValidationFailure for a body that is no form.
    """
    kept: Form | None = request.__dict__.get("_anymail_form")
    if kept is None:
        kept = Form(list(_parts(request)))
        request.__dict__["_anymail_form"] = kept
    return kept


def _parts(request: HttpRequest) -> Iterator[Part]:
    if request.content_type == URLENCODED:
        # Latin-1 maps bytes to characters one by one.
        try:
            pairs = parse_qsl(request.body.decode("latin-1"), True, encoding="latin-1", max_num_fields=_MOST_PARTS)
        except ValueError:
            raise AnymailWebhookValidationFailure("its form has too many fields.") from None
        for name, value in pairs:
            yield Part(name.encode("latin-1").decode("utf-8", "replace"), value.encode("latin-1"))
    elif request.content_type == MULTIPART:
        yield from _multipart(request.body, (request.content_params or {}).get("boundary", ""))


def _multipart(body: bytes, boundary: str) -> Iterator[Part]:
    """https://www.rfc-editor.org/rfc/rfc7578"""
    if not boundary or not boundary.isascii() or len(boundary) > 200:
        raise AnymailWebhookValidationFailure("its form has no boundary.")
    _, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode(), _MOST_PARTS)
    if not parts:
        raise AnymailWebhookValidationFailure("its body is not the form that its content type says.")
    closing = next((index for index, part in enumerate(parts) if part.startswith(b"--")), None)
    if closing is None:
        if len(parts) >= _MOST_PARTS:
            raise AnymailWebhookValidationFailure("its form has too many parts.")
        raise CutOffForm("its form ends before its closing boundary.")
    for part in parts[:closing]:
        head, blank, content = part.partition(b"\r\n\r\n")
        if not blank or len(head) > _LONGEST_PART_HEADER:
            raise AnymailWebhookValidationFailure("a part of its form has no header, or one that is too long.")
        if (read := _part(head, content)) is not None:
            yield read


def _part(head: bytes, content: bytes) -> Part | None:
    headers = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    disposition = _parameters(headers.get("content-disposition", ""))[1]
    if "name" not in disposition:
        return None
    if headers.get("content-transfer-encoding", "").lower() == "base64":
        try:
            content = b64decode(content)
        except binascii.Error:
            raise AnymailWebhookValidationFailure("a part of its form is not the base64 that it says.") from None
    content_type, parameters = _parameters(headers.get("content-type", ""))
    return Part(disposition["name"], content, disposition.get("filename"), content_type, parameters.get("charset"))


def _parameters(value: str) -> tuple[str, dict[str, str]]:
    try:
        found: tuple[str, dict[str, str]] = parse_header_parameters(value)
    except ValueError:
        raise AnymailWebhookValidationFailure("a part of its form has a header that cannot be read.") from None
    return found
