"""Reads the body of a webhook call: whole, within a limit of its own, and told from one that was cut off."""

from __future__ import annotations

import hashlib
from io import BytesIO

from django.conf import settings
from django.http import HttpRequest

from anymail.esps.kit.forms import MULTIPART, URLENCODED, CutOffForm, Form, form_of
from anymail.exceptions import AnymailWebhookValidationFailure

__all__ = ["BodyLost", "BodyTooLarge", "identity", "read_body"]

_CHUNK = 1024 * 1024


class BodyLost(Exception):
    """A body did not arrive, or not all of it. The text says why."""


class BodyTooLarge(Exception):
    """A body is larger than the limit."""


def read_body(request: HttpRequest, limit: int | None) -> None:
    """Have the body ready: ``request.body`` and, of a form, ``request.POST`` and ``request.FILES``, whatever its size.

    ``limit`` is in bytes; None: no limit. Raises BodyLost, BodyTooLarge, and AnymailWebhookValidationFailure for a
    body that is not the form that its content type says.
    """
    if not hasattr(request, "_body"):
        request._body = _read(request, limit)
        request._stream = BytesIO(request._body)
    if request.content_type not in (MULTIPART, URLENCODED):
        return
    try:
        form = form_of(request)
    except CutOffForm as error:
        raise BodyLost(str(error)) from None
    encoding = _encoding(request)
    request._post, request._files = form.fields(encoding), form.files()  # type: ignore[attr-defined]


def _read(request: HttpRequest, limit: int | None) -> bytes:
    if getattr(request, "_read_started", False):
        raise BodyLost("a middleware read it as a form before, which leaves nothing to verify")
    length = _content_length(request)
    if length is not None and limit is not None and length > limit:
        raise BodyTooLarge
    source = request
    if length is None and "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower():
        # An ASGI request has its body already. https://peps.python.org/pep-3333/ knows no body without a length;
        # a server that ends the stream where the body ends says so.
        environ = getattr(request, "environ", None)
        if environ is not None and environ.get("wsgi.input_terminated"):
            source = environ["wsgi.input"]
        elif environ is not None:
            raise BodyLost(
                "it comes in chunks (Transfer-Encoding: chunked), which this WSGI server does not pass on. Let the "
                "proxy before it buffer requests, so that they have a Content-Length"
            )
    chunks: list[bytes] = []
    read = 0
    try:
        while chunk := source.read(_CHUNK):
            chunks.append(chunk)
            read += len(chunk)
            if limit is not None and read > limit:
                raise BodyTooLarge
    except OSError:
        raise BodyLost("the connection broke") from None
    if length is not None and read != length:
        raise BodyLost(f"it was cut off: {read} of {length} bytes came")
    return b"".join(chunks)


def _content_length(request: HttpRequest) -> int | None:
    text = str(request.META.get("CONTENT_LENGTH") or "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise AnymailWebhookValidationFailure("its Content-Length is no number.")
    return int(text)


def _encoding(request: HttpRequest) -> str:
    """The charset of a form's text. Python has some under a charset's name that are none, like "hex"."""
    encoding = request.encoding or settings.DEFAULT_CHARSET
    try:
        b"x".decode(encoding, "replace")
    except (LookupError, UnicodeError):
        raise AnymailWebhookValidationFailure("its charset is none that text can have.") from None
    return encoding


def identity(request: HttpRequest, call_id: str) -> str:
    """What tells one call from another, in hex: its body, and the ESP's own name for it.

    A form is known by its parts, since a boundary may be another each time that it is sent.
    """
    if request.content_type == MULTIPART:
        return _of_form(form_of(request), call_id)
    digest = hashlib.sha256(request.body)
    if call_id:
        digest.update(b"\0" + call_id.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _of_form(form: Form, call_id: str) -> str:
    digest = hashlib.sha256(call_id.encode("utf-8", "surrogatepass"))
    for part in form.parts:
        head = repr((part.name, part.filename, part.content_type, len(part.content)))
        digest.update(head.encode("utf-8", "surrogatepass"))
        digest.update(part.content)
    return digest.hexdigest()
