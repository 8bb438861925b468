"""Settings: what each option means, where it is looked up, and one loader for all."""

from __future__ import annotations

import dataclasses
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, NoReturn, Self, TypeVar, overload

from django.conf import settings
from django.core.signals import setting_changed

from anymail.exceptions import (
    AnymailConfigurationError,
    AnymailDeprecationWarning,
    AnymailInvalidMailer,
    AnymailInvalidValue,
    AnymailWarning,
)
from anymail.mail.addresses import IdnaEncoder, encode_idna2008, idna_encoder

__all__ = [
    "Given",
    "Options",
    "Secret",
    "SendOptions",
    "WebhookOptions",
    "conceal_extra",
    "load",
    "option",
    "secret",
    "secrets",
]

T = TypeVar("T")
DefaultT = TypeVar("DefaultT")

_MISSING: Any = dataclasses.MISSING
_NOWHERE: Any = object()

DEFAULT_TRANSPORT = "anymail.delivery.transport.PooledTransport"


class Secret:
    """A credential, without white space at its ends. Only ``reveal()`` shows it: no repr, log or traceback does.

    Raises ValueError, whose text never shows the value, when there is nothing that could be a credential.
    """

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str | bytes | Secret) -> None:
        if isinstance(value, Secret):
            value = value.reveal()
        if isinstance(value, bytes):
            value = value.decode()
        if value is None:
            raise ValueError("it is set to None: is its environment variable set?")
        if not isinstance(value, str):
            raise ValueError(f"a string is needed, not a value of type {type(value).__name__}")
        if not value.strip():
            raise ValueError("it is empty")
        self._value = value.strip()

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


class Given:
    """Settings as a project gave them, credentials and all.

    It is neither a mapping nor has it a telling repr, since what reports errors shows local variables.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any] | Given) -> None:
        self._values: dict[str, Any] = values._values if isinstance(values, Given) else dict(values)

    def names(self) -> list[str]:
        return list(self._values)

    def only(self, wanted: Callable[[str], bool]) -> Given:
        """Those with such names."""
        return Given({name: value for name, value in self._values.items() if wanted(name)})

    def reveal(self) -> dict[str, Any]:
        return self._values

    def __repr__(self) -> str:
        return f"Given({', '.join(map(repr, self._values))})"


class _Value:
    """One setting as it was given, and where it stood. ``value`` may be a credential."""

    __slots__ = ("value", "where")

    def __init__(self, value: Any, where: str) -> None:
        self.value = value
        self.where = where

    def __repr__(self) -> str:
        return f"<{self.where}>"


@overload
def option(
    doc: str,
    *,
    default: DefaultT,
    bare: bool = False,
    common: bool = False,
    aliases: Iterable[str] = (),
) -> DefaultT: ...
@overload
def option(
    doc: str,
    *,
    default: DefaultT,
    convert: Callable[[Any], T],
    bare: bool = False,
    common: bool = False,
    aliases: Iterable[str] = (),
) -> DefaultT | T: ...
@overload
def option(
    doc: str,
    *,
    convert: Callable[[Any], T],
    bare: bool = False,
    common: bool = False,
    aliases: Iterable[str] = (),
) -> T: ...
@overload
def option(doc: str, *, bare: bool = False, common: bool = False, aliases: Iterable[str] = ()) -> Any: ...
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
    return _field(doc, default, convert=convert, bare=bare, common=common, aliases=tuple(aliases), esp_extra=None)


def _field(doc: str, default: Any, **metadata: Any) -> Any:
    metadata["doc"] = doc
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@overload
def secret(doc: str, *, bare: bool = ..., aliases: Iterable[str] = ..., esp_extra: str | None = ...) -> Secret: ...
@overload
def secret(
    doc: str, *, default: None, bare: bool = ..., aliases: Iterable[str] = ..., esp_extra: str | None = ...
) -> Secret | None: ...
def secret(
    doc: str,
    *,
    default: Any = _MISSING,
    bare: bool = False,
    aliases: Iterable[str] = (),
    esp_extra: str | None = None,
) -> Any:
    """An option that holds one ``Secret``, fit for an HTTP header. None is allowed where it is the default.

    ``esp_extra``: the key in a message's ``esp_extra`` that holds another one for that message.
    """
    convert = credential if default is _MISSING else optional(credential)
    return _field(doc, default, convert=convert, bare=bare, common=False, aliases=tuple(aliases), esp_extra=esp_extra)


def secrets(doc: str, *, bare: bool = False, common: bool = False, aliases: Iterable[str] = ()) -> tuple[Secret, ...]:
    """An option that holds several ``Secret``s, any of which is good: give a string, or a list to rotate them.

    None is refused: it is what an unset environment variable gives, and would turn a signature check off.
    """
    return option(doc, default=(), convert=_secrets, bare=bare, common=common, aliases=aliases)


def credential(value: Any) -> Secret:
    """A ``Secret`` that can stand in an HTTP header. Raises ValueError, whose text never shows it."""
    made = Secret(value)
    text = made.reveal()
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("it has a line break or another control character in it")
    if any(ord(character) > 255 for character in text):
        raise ValueError("it has a character in it that no HTTP header can hold (copied from a formatted text?)")
    return made


def conceal_extra(esp_extra: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """``esp_extra`` with a ``Secret`` for each of these names that it has.

    Raises AnymailInvalidValue, which names the key, for one that cannot be a credential.
    """
    concealed, problem = _concealed(esp_extra, names)
    del esp_extra
    if problem:
        raise AnymailInvalidValue(problem)
    return concealed


def _concealed(esp_extra: Mapping[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], str]:
    concealed = dict(esp_extra)
    for name in names:
        if concealed.get(name):
            try:
                concealed[name] = credential(concealed[name])
            except ValueError as error:
                return {}, f"esp_extra[{name!r}] is wrong: {error}."
    return concealed, ""


def secret_extras(cls: type[Options]) -> tuple[str, ...]:
    """The keys of a message's ``esp_extra`` that hold credentials."""
    return tuple(name for field in dataclasses.fields(cls) if (name := field.metadata["esp_extra"]))


def _secrets(value: Any) -> tuple[Secret, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values:
        raise ValueError("it is empty")
    return tuple(Secret(item) for item in values)


def _credentials(value: Any) -> tuple[Secret, ...]:
    # None is what WEBHOOK_SECRET has always been where it is not wanted.
    found = () if value is None else _secrets(value)
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


def timeouts(value: Any) -> tuple[float | None, ...]:
    """(connect, read) or (connect, read, total) in seconds, from one number for both or from two or three; None is no
    limit.
    """
    given = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(given) not in (2, 3) or not all(one is None or _is_a_limit(one) for one in given):
        raise ValueError(
            "a number of seconds, a pair of them for connecting and reading, or three, the last for the whole call, "
            "is needed (None for no limit)"
        )
    return given


def _is_a_limit(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e9


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
    requests_timeout: tuple[float | None, ...] = option(
        "Seconds to wait for the ESP, or a pair: for connecting, and for each read; or three, the last for the whole "
        "call (by default: connecting, three reads, and a second for every 16 KiB of the request).",
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
    rate_limit_wait: float | None = option(
        "Seconds that a call waits in all for an ESP that says it gets too many; None for no limit.",
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
    cls: type[OptionsT], prefixes: tuple[str, ...], given: Mapping[str, Any] | Given, *, alias: str | None = None
) -> OptionsT:
    """Fill an options class: from ``given`` (keywords, or a mailer's OPTIONS), else from the settings.

    ``prefixes``: the ESP's names in settings, its current one first. Raises AnymailConfigurationError (under
    MAILERS, where ``alias`` is set: AnymailInvalidMailer) for an unknown, missing or wrong option; the text names
    every place that was looked in, and never shows a value. ``missing`` is true of the error for what is set nowhere.
    Warns, naming the setting, of a credential with white space at its ends, which is left out.
    """
    given = Given(given)
    _refuse_wrong_anymail()
    options = _remembered(cls, prefixes, given, alias)
    if options is None:
        options = _load(cls, prefixes, given, alias)
        _remember(cls, prefixes, given, alias, options)
    return options


def _refuse_wrong_anymail() -> None:
    if not isinstance(_anymail(), Mapping):
        raise AnymailConfigurationError("The setting ANYMAIL must be a dict.")


def _anymail() -> Any:
    return getattr(settings, "ANYMAIL", {})


# Django makes a backend for each send_mail: what has been read once is read again only if it changed.


def _remembered(cls: type[OptionsT], prefixes: tuple[str, ...], given: Given, alias: str | None) -> OptionsT | None:
    try:
        before, options = _loaded[cls, prefixes, alias, tuple(given.reveal().items())]
    except (KeyError, TypeError):
        return None
    return options if before == _anymail() else None


def _remember(
    cls: type[OptionsT], prefixes: tuple[str, ...], given: Given, alias: str | None, options: OptionsT
) -> None:
    if len(_loaded) < 1000:
        # Values that cannot be hashed are rare: such options are read each time.
        with suppress(TypeError):
            _loaded[cls, prefixes, alias, tuple(given.reveal().items())] = (dict(_anymail()), options)


def _load(cls: type[OptionsT], prefixes: tuple[str, ...], given: Given, alias: str | None) -> OptionsT:
    """Nothing here holds a credential in clear: all of this may fail."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    names = {other: name for name, field in fields.items() for other in (name, *field.metadata["aliases"])}
    unknown = [name for name in given.names() if name not in names]
    if unknown:
        raise _error(_unknown_text(unknown, names), alias)
    extras = secret_extras(cls)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        found = _look_up(field, prefixes, given)
        if found is None:
            if field.default is _MISSING and field.default_factory is _MISSING:
                error = _error(_missing_text(field, prefixes), alias)
                error.missing = True
                raise error
            continue
        _warn_of_old_name(field, prefixes, found.where)
        value, problem, stripped = _converted(field, found, extras)
        if problem:
            raise _error(problem, alias)
        if stripped:
            warnings.warn(
                f"{found.where} has white space at its ends, which is left out: a secret file that ends in a line "
                "break, perhaps.",
                AnymailWarning,
                stacklevel=2,
            )
        values[name] = value
    return cls(**values)


def _converted(field: dataclasses.Field[Any], found: _Value, extras: tuple[str, ...]) -> tuple[Any, str, bool]:
    """The value of an option, what is wrong with it, and whether white space was taken off a credential.

    Raises nothing: what reports errors would find the value here.
    """
    convert = field.metadata["convert"]
    try:
        if field.name == "send_defaults":
            return _without_clear_extras(found.value, extras), "", False
        value = found.value if convert is None else convert(found.value)
    except (ValueError, TypeError, ImportError, AnymailInvalidValue) as error:
        text = str(error)
        return None, f"{found.where} is wrong: {text}{'' if text.endswith(('.', '?')) else '.'}", False
    return value, "", _holds_secrets(value) and _has_white_ends(found.value)


def _without_clear_extras(layers: Iterable[Any], extras: tuple[str, ...]) -> dict[str, Any]:
    """The send defaults in force, with their credentials concealed."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(mapping(layer or {}))
    if isinstance(merged.get("esp_extra"), Mapping):
        merged["esp_extra"] = conceal_extra(merged["esp_extra"], extras)
    return merged


def _holds_secrets(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    return isinstance(value, Secret) or (isinstance(value, tuple) and any(map(_holds_secrets, value)))


def _has_white_ends(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (list, tuple)):
        return any(map(_has_white_ends, value))
    # PEM is a text of several lines, which ends in a line break by right.
    return isinstance(value, str) and value != value.strip() and "\n" not in value.strip()


def _look_up(field: dataclasses.Field[Any], prefixes: tuple[str, ...], given: Given) -> _Value | None:
    """The setting of an option; for send defaults a list of them, the strongest last."""
    own = given.reveal()
    name = next((one for one in (field.name, *field.metadata["aliases"]) if one in own), None)
    if field.name == "send_defaults":
        return _Value([*_send_defaults(prefixes), own.get("send_defaults")], "SEND_DEFAULTS")
    if name is not None:
        return _Value(own[name], f"The option {field.name!r}")
    anymail = _anymail()
    for key, where, source in _places(field, prefixes):
        value = anymail.get(key, _NOWHERE) if source is _IN_ANYMAIL else getattr(settings, key, _NOWHERE)
        if value is not _NOWHERE:
            return _Value(value, where)
    return None


def _warn_of_old_name(field: dataclasses.Field[Any], prefixes: tuple[str, ...], where: str) -> None:
    for old in prefixes[1:]:
        if f"{old}_{field.name.upper()}" in where:
            new = where.replace(old, prefixes[0])
            warnings.warn(f"{where} is the old name of {new}.", AnymailDeprecationWarning, stacklevel=2)


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


def _send_defaults(prefixes: tuple[str, ...]) -> list[Any]:
    keys = ("SEND_DEFAULTS", *(f"{prefix}_SEND_DEFAULTS" for prefix in reversed(prefixes)))
    return [_anymail().get(key) or getattr(settings, f"ANYMAIL_{key}", None) for key in keys]


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
