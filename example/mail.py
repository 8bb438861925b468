"""The messages of this project.

Each is made for what the ESP can express: ``anymail.features.features()[slug]`` says that as data. A project that
stays with one ESP writes its messages for that one, without the questions asked here.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from anymail.mail.supports import Supports
from anymail.message import AnymailMessage

#: A green dot.
LOGO = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


@dataclass(frozen=True)
class Person:
    name: str
    address: str

    @property
    def full(self) -> str:
        return f"{self.name} <{self.address}>"


def order_confirmation(
    supports: Supports, customer: Person, copy: Person | None = None, archive: Person | None = None
) -> AnymailMessage:
    """All that one message can have: two bodies, an inline image, an attachment, a header, metadata, tags."""
    message = AnymailMessage(
        subject="Your order № 1234 – thank you, Zoë!",
        body="Thank you for your order.\n\nCafé Zoë\nhttps://example.com/\n",
        to=[customer.full],
        cc=[copy.full] if copy else [],
        bcc=[archive.full] if archive else [],
        reply_to=["Orders <orders@example.com>", "Zoë <zoe@example.com>"][: supports.reply_to],
        headers={"X-Order": "1234"} if supports.headers else {},
        tags=["order", "shop"][: supports.tags],
    )
    image = ""
    if supports.inline:
        cid = message.attach_inline_image(LOGO, filename="logo.png", subtype="png", idstring="logo")
        image = f'<img src="cid:{cid}" alt="Café Zoë">'
    message.attach_alternative(
        f'{image}<p>Thank you for your order.</p><p><a href="https://example.com/">Café Zoë</a></p>', "text/html"
    )
    if supports.attachments:
        message.attach("commande-nº-1234.csv", "article,price\ncoffee,€ 3.50\n", "text/csv")
    if supports.metadata:
        message.metadata = {"order": "1234"}
    if supports.track_opens:
        message.track_opens = True
    if supports.track_clicks:
        message.track_clicks = True
    return message


def invitation(
    supports: Supports, people: Sequence[Person], merge_field: str, without: Collection[str] = ()
) -> AnymailMessage | None:
    """One message that becomes one for each of ``people``, who do not see each other; None if the ESP has no way.

    ``merge_field`` is how this ESP marks a field in a text. ``without`` names attributes to leave out.
    """
    can = {
        name
        for name in ("merge_data", "merge_metadata", "merge_headers")
        # "template" would mean: only with a stored template.
        if getattr(supports, name) is True and name not in without
    }
    if not can:
        return None
    name = merge_field.format("name") if "merge_data" in can else "customer"
    message = _invitation(supports, people, name)
    if "merge_data" in can:
        message.merge_data = {person.address: {"name": person.name} for person in people}
    if "merge_metadata" in can:
        message.merge_metadata = {person.address: {"customer": f"c{n}"} for n, person in enumerate(people, 1)}
    if "merge_headers" in can:
        # Any one of the three makes it a batch.
        message.merge_headers = {
            person.address: {"List-Unsubscribe": f"<https://example.com/unsubscribe/{n}>"}
            for n, person in enumerate(people, 1)
        }
    return message


def plain_invitation(supports: Supports, person: Person) -> AnymailMessage:
    """The same, written here for one person."""
    return _invitation(supports, [person], person.name)


def _invitation(supports: Supports, people: Sequence[Person], name: str) -> AnymailMessage:
    message = AnymailMessage(
        subject="You are invited",
        body=f"Dear {name},\n\ncome and taste our new coffee.\n",
        to=[person.full for person in people],
        tags=["invitation"][: supports.tags],
    )
    # Not every ESP takes a message without HTML.
    message.attach_alternative(f"<p>Dear {name},</p><p>come and taste our new coffee.</p>", "text/html")
    return message


def receipt(supports: Supports, people: Sequence[Person], template_id: str | int) -> AnymailMessage | None:
    """A template stored at the ESP, with its fields filled in; None if the ESP has no templates."""
    if not supports.template_id:
        return None
    # The subject and the text are the template's.
    message = AnymailMessage(subject=None, body="", to=[person.full for person in people], template_id=template_id)
    if supports.merge_global_data:
        message.merge_global_data = {"shop": "Café Zoë"}
    if supports.merge_data:
        message.merge_data = {
            person.address: {"name": person.name, "total": f"{n}.50"} for n, person in enumerate(people, 3)
        }
    return message
