"""What anymail_status says."""

from anymail.mail.addresses import EmailAddress
from anymail.mail.status import AnymailRecipientStatus, AnymailStatus, all_recipients
from anymail.message import ANYMAIL_STATUSES
from anymail.wire import Response


def test_it_starts_empty() -> None:
    status = AnymailStatus()
    assert (status.message_id, status.status, status.recipients, status.esp_response) == (None, None, {}, None)


def test_one_id_for_all() -> None:
    status = AnymailStatus()
    addresses = [EmailAddress("", "a@x.example", "A@X.example"), EmailAddress("", "b@x.example")]
    response = Response(200)
    status.record(all_recipients(addresses, "sent", "id-1"), response)
    assert status.message_id == "id-1"
    assert status.status == {"sent"}
    assert status.recipients == {"A@X.example": ("id-1", "sent"), "b@x.example": ("id-1", "sent")}
    assert status.esp_response is response


def test_different_ids_and_statuses() -> None:
    status = AnymailStatus()
    recipients = {
        "a@x.example": AnymailRecipientStatus("1", "sent"),
        "b@x.example": AnymailRecipientStatus("2", "queued"),
        "c@x.example": AnymailRecipientStatus(None, "rejected"),
    }
    status.record(recipients, None)
    assert status.message_id == {"1", "2"}
    assert status.status == {"sent", "queued", "rejected"}


def test_no_id() -> None:
    status = AnymailStatus()
    status.record({"a@x.example": AnymailRecipientStatus(None, "failed")}, None)
    assert (status.message_id, status.status) == (None, {"failed"})


def test_the_words() -> None:
    assert set(ANYMAIL_STATUSES) == {"sent", "queued", "invalid", "rejected", "failed", "unknown"}
