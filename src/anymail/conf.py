"""Settings: what each option means, where it is looked up, and one loader for all."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NoReturn, Self, TypeVar

from django.conf import settings
from django.core.signals import setting_changed

from anymail.exceptions import AnymailConfigurationError, AnymailDeprecationWarning, AnymailInvalidMailer
from anymail.mail.addresses import IdnaEncoder, encode_idna2008, idna_encoder

__all__ = ["Options", "Secret", "SendOptions", "WebhookOptions", "load", "option", "secret", "secrets"]

_MISSING: Any = dataclasses.MISSING
_NOWHERE = object()

DEFAULT_TRANSPORT = "anymail.delivery.transport.PooledTransport"


class Secret:
    """A credential. Only ``reveal()`` shows it: no repr, log or traceback does."""

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str | bytes | Secret) -> None:
        if isinstance(value, Secret):
            value = value.reveal()
        if isinstance(value, bytes):
            value = value.decode()
        if not isinstance(value, str):
            raise ValueError(f"a string is needed, not a value of type {type(value).__name__}")
        if not value.strip():
            raise ValueError("it is empty")
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('…')"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Secret cannot be pickled: it would stand there for all to read.")


def option(
    doc: str,
    *,
    default: Any = _MISSING,
    convert: Callable[[Any], Any] | None = None,
    bare: bool = False,
    common: bool = False,
    aliases: Iterable[str] = (),
) -> Any:
    """A field of an options class.

    ``doc`` is its line in the settings reference. Without ``default`` it is required. ``convert`` makes the value
    from what the setting holds, raising ValueError when it cannot. ``bare``: found under its name without
    ``ANYMAIL_`` too. ``common``: the same for all ESPs unless set for one. ``aliases``: other keyword names.
    """
    metadata = {"doc": doc, "convert": convert, "bare": bare, "common": common, "aliases": tuple(aliases)}
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def secret(doc: str, *, default: Any = _MISSING, bare: bool = False, aliases: Iterable[str] = ()) -> Any:
    """An option that holds one ``Secret``."""
    return option(doc, default=default, convert=optional(Secret), bare=bare, aliases=aliases)


def secrets(doc: str, *, bare: bool = False, common: bool = False, aliases: Iterable[str] = ()) -> Any:
    """An option that holds several ``Secret``s, any of which is good: give a string, or a list to rotate them."""
    return option(doc, default=(), convert=_secrets, bare=bare, common=common, aliases=aliases)


def _secrets(value: Any) -> tuple[Secret, ...]:
    if value is None:
        return ()
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values:
        raise ValueError("it is empty")
    return tuple(Secret(item) for item in values)


def _credentials(value: Any) -> tuple[Secret, ...]:
    found = _secrets(value)
    for one in found:
        user, colon, password = one.reveal().partition(":")
        if not (colon and user and password):
            raise ValueError('"user:password" is needed')
    return found


def optional(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``convert``, but None stays None."""
    return lambda value: None if value is None else convert(value)


def base_url(value: Any) -> str:
    """An http(s) URL that ends in a slash, so that paths can be appended."""
    if not isinstance(value, str) or not value.startswith(("https://", "http://")):
        raise ValueError("an http:// or https:// URL is needed")
    return value if value.endswith("/") else f"{value}/"


def boolean(value: Any) -> bool:
    if isinstance(value, (bool, int)):
        return bool(value)
    raise ValueError("True or False is needed")


def mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("a dict is needed")
    return dict(value)


def whole_number(least: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"a whole number from {least} is needed")
        return value

    return convert


def timeouts(value: Any) -> tuple[float | None, float | None]:
    """(connect, read) in seconds, from one number for both or from a pair; None is no limit."""
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(one is None or (isinstance(one, (int, float)) and one > 0) for one in pair):
        raise ValueError("a number of seconds, or a pair of them for connecting and reading, is needed")
    return pair[0], pair[1]


def seconds(value: Any) -> float | None:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError("a number of seconds or None is needed")


def _slugs(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(slug, str) for slug in value):
        raise ValueError('a list of ESPs is needed, as they are named in URLs: ["postmark", "amazon_ses"]')
    return tuple(value)


def _slugs_or_all(value: Any) -> bool | tuple[str, ...]:
    return value if isinstance(value, bool) else _slugs(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The base of all options classes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SendOptions(Options):
    """What can be set for sending, whatever the ESP."""

    send_defaults: dict[str, Any] = option(
        'Attributes for every message, e.g. `{"tags": ["shop"]}`. An ESP\'s own replace the common ones key by key.',
        default={},
        convert=mapping,
        common=True,
    )
    ignore_unsupported_features: bool = option(
        "Leave out what the ESP cannot express instead of raising `AnymailUnsupportedFeature`.",
        default=False,
        convert=boolean,
        common=True,
    )
    ignore_recipient_status: bool = option(
        "Do not raise `AnymailRecipientsRefused`.", default=False, convert=boolean, common=True
    )
    requests_timeout: tuple[float | None, float | None] = option(
        "Seconds to wait for the ESP, or a pair: for connecting, and for each read.",
        default=(30, 30),
        convert=timeouts,
        common=True,
    )
    debug_api_requests: bool = option(
        "Print every call to the ESP on standard output, without its credentials. Not for production.",
        default=False,
        convert=boolean,
        common=True,
    )
    idna_encoder: IdnaEncoder = option(
        'How non-ASCII domains are encoded: `"idna2008"`, `"idna2003"`, `"uts46"`, `"none"`, a dotted path '
        "or a callable.",
        default=encode_idna2008,
        convert=idna_encoder,
        common=True,
    )
    concurrency: int = option(
        "Calls in flight at a time in one `send_messages`.", default=8, convert=whole_number(1), common=True
    )
    retries: int = option(
        "Attempts after the first, where repeating cannot send twice; 0 for none.",
        default=2,
        convert=whole_number(0),
        common=True,
    )
    rate_limit_wait: float = option(
        "Seconds that a call waits in all for an ESP that says it gets too many.",
        default=60,
        convert=seconds,
        common=True,
    )
    transport: Any = option(
        "What carries the HTTP: the dotted path of a transport class.", default=DEFAULT_TRANSPORT, common=True
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class WebhookOptions(Options):
    """What can be set for webhooks, whatever the ESP."""

    webhook_secret: tuple[Secret, ...] = option(
        '`"user:password"` that webhook URLs carry as HTTP basic auth, or a list of them.',
        default=(),
        convert=_credentials,
        common=True,
        aliases=["basic_auth"],
    )
    webhook_max_age: float | None = option(
        "The greatest age of a signed timestamp in seconds; None for no limit. The default depends on the ESP.",
        default=_NOWHERE,
        convert=seconds,
        common=True,
    )
    webhook_cache: str | None = option(
        "The Django cache, by its alias, in which all processes of a project remember the calls that they have handled "
        "or have in hand: Redis, Memcached or a database. None: each process remembers its own.",
        default=None,
        common=True,
    )
    webhook_allow_unverified: bool | tuple[str, ...] = option(
        'The ESPs whose calls are taken from anyone, where neither a secret nor a key is set: `["postmark"]`, or True '
        "for all. Otherwise such calls are answered 404.",
        default=(),
        convert=_slugs_or_all,
        common=True,
    )
    webhook_esps: tuple[str, ...] | None = option(
        'The ESPs whose URLs `anymail.urls` has: `["postmark", "mailgun"]`. None: every ESP.',
        default=None,
        convert=optional(_slugs),
        common=True,
    )
    inbound_max_size: int = option(
        "The most bytes of a call with received mail, which `DATA_UPLOAD_MAX_MEMORY_SIZE` does not limit.",
        default=64 * 1024 * 1024,
        convert=whole_number(1),
        common=True,
    )


OptionsT = TypeVar("OptionsT", bound=Options)


_loaded: dict[Any, tuple[dict[str, Any], Any]] = {}
setting_changed.connect(lambda **_: _loaded.clear(), weak=False)


def load(
    cls: type[OptionsT], prefixes: tuple[str, ...], given: Mapping[str, Any], *, alias: str | None = None
) -> OptionsT:
    """Fill an options class: from ``given`` (keywords, or a mailer's OPTIONS), else from the settings.

    ``prefixes``: the ESP's names in settings, its current one first. Raises AnymailConfigurationError (under
    MAILERS, where ``alias`` is set: AnymailInvalidMailer) for an unknown, missing or wrong option; the text names
    every place that was looked in, and never shows a value.
    """
    anymail = getattr(settings, "ANYMAIL", {})
    if not isinstance(anymail, Mapping):
        raise AnymailConfigurationError("The setting ANYMAIL must be a dict.")
    # Django makes a backend for each send_mail: what has been read once is read again only if it changed.
    key: Any = (cls, prefixes, alias, tuple(given.items()))
    try:
        before, found = _loaded.get(key, (None, None))
    except TypeError:
        key, before, found = None, None, None
    if found is None or before != anymail:
        found = _load(cls, prefixes, given, anymail, alias)
        if key is not None and len(_loaded) < 1000:
            _loaded[key] = (dict(anymail), found)
    options: OptionsT = found
    return options


def _load(
    cls: type[OptionsT],
    prefixes: tuple[str, ...],
    given: Mapping[str, Any],
    anymail: Mapping[str, Any],
    alias: str | None,
) -> OptionsT:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    names = {other: name for name, field in fields.items() for other in (name, *field.metadata["aliases"])}
    unknown = [name for name in given if name not in names]
    if unknown:
        raise _error(_unknown_text(unknown, names), alias)
    own = {names[name]: value for name, value in given.items()}
    values = {}
    for name, field in fields.items():
        try:
            value, where = _look_up(field, prefixes, own, anymail)
        except ValueError as error:
            raise _error(f"SEND_DEFAULTS is wrong: {error}.", alias) from error
        if value is _NOWHERE:
            if field.default is _MISSING and field.default_factory is _MISSING:
                needed = _error(_missing_text(field, prefixes), alias)
                needed.missing = True
                raise needed
            continue
        convert = field.metadata["convert"]
        if convert is not None:
            try:
                value = convert(value)
            except (ValueError, TypeError, ImportError) as error:
                raise _error(f"{where} is wrong: {error}.", alias) from error
        values[name] = value
    return cls(**values)


def _look_up(
    field: dataclasses.Field[Any], prefixes: tuple[str, ...], own: Mapping[str, Any], anymail: Mapping[str, Any]
) -> tuple[Any, str]:
    if field.name == "send_defaults":
        return _send_defaults(prefixes, own, anymail), "SEND_DEFAULTS"
    if field.name in own:
        return own[field.name], f"The option {field.name!r}"
    for key, where, source in _places(field, prefixes):
        value = anymail.get(key, _NOWHERE) if source is _IN_ANYMAIL else getattr(settings, key, _NOWHERE)
        if value is not _NOWHERE:
            old = [prefix for prefix in prefixes[1:] if f"{prefix}_{field.name.upper()}" in key]
            if old:
                new = where.replace(old[0], prefixes[0])
                warnings.warn(f"{where} is the old name of {new}.", AnymailDeprecationWarning, stacklevel=2)
            return value, where
    return _NOWHERE, ""


_IN_ANYMAIL = object()


@lru_cache(maxsize=512)
def _places(field: dataclasses.Field[Any], prefixes: tuple[str, ...]) -> list[tuple[str, str, object]]:
    """Where a setting may stand, in order: its key, its name for people, and whether it is inside ANYMAIL."""
    name = field.name.upper()
    keys = [f"{prefix}_{name}" for prefix in prefixes] + ([name] if field.metadata["common"] else [])
    places: list[tuple[str, str, object]] = []
    for key in keys:
        places.append((key, f'ANYMAIL["{key}"]', _IN_ANYMAIL))
        places.append((f"ANYMAIL_{key}", f"ANYMAIL_{key}", settings))
    if field.metadata["bare"]:
        places.extend((f"{prefix}_{name}", f"{prefix}_{name}", settings) for prefix in prefixes)
    return places


def _send_defaults(prefixes: tuple[str, ...], own: Mapping[str, Any], anymail: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for key in ("SEND_DEFAULTS", *(f"{prefix}_SEND_DEFAULTS" for prefix in reversed(prefixes))):
        merged.update(mapping(anymail.get(key) or getattr(settings, f"ANYMAIL_{key}", None) or {}))
    merged.update(mapping(own.get("send_defaults") or {}))
    return merged


def _missing_text(field: dataclasses.Field[Any], prefixes: tuple[str, ...]) -> str:
    places = [where for _, where, _ in _places(field, prefixes[:1])]
    return (
        f"{prefixes[0]}_{field.name.upper()} is needed and was found nowhere: set {places[0]}. "
        f"(Also looked for the option {field.name!r} and for {', '.join(places[1:])}.)"
    )


def _unknown_text(unknown: list[str], names: Mapping[str, str]) -> str:
    import difflib

    hints = []
    for name in unknown:
        near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
        hints.append(f"{name!r} (did you mean {near[0]!r}?)" if near else repr(name))
    return f"Unknown options: {', '.join(hints)}."


def _error(text: str, alias: str | None) -> AnymailConfigurationError:
    return AnymailInvalidMailer(text, alias=alias) if alias is not None else AnymailConfigurationError(text)


def max_age(options: WebhookOptions, default: float | None) -> float | None:
    """The age limit in force for signed timestamps: WEBHOOK_MAX_AGE, else the ESP's own."""
    return default if options.webhook_max_age is _NOWHERE else options.webhook_max_age


def setting_names(cls: type[Options], prefix: str) -> dict[str, dataclasses.Field[Any]]:
    """Each option of a class by the name of its setting, for the reference and the checks."""
    return {
        (field.name if field.metadata["common"] else f"{prefix}_{field.name}").upper(): field
        for field in dataclasses.fields(cls)
    }
