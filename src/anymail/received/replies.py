"""What somebody wrote, and what they quote below it."""

from __future__ import annotations

from anymail.exceptions import AnymailImproperlyInstalled

__all__ = ["split_reply"]

# quotequail's patterns are quadratic in the length of a line.
_MAX_LINE = 300


def split_reply(text: str) -> tuple[str, str]:
    """The reply, and from the line that introduces the quotation ("On … wrote:") the rest; nothing is left out.

    Raises AnymailImproperlyInstalled without the package quotequail, of the extra ``replies``.
    """
    try:
        import quotequail
    except ImportError:
        raise AnymailImproperlyInstalled("quotequail", "replies") from None
    lines = text.split("\n")
    short = "\n".join(line[:_MAX_LINE] for line in lines)
    # Its limit is meant for display: beyond it there would be a quotation in every text.
    pieces = quotequail.quote(short, limit=len(lines) + 1, quote_intro_line=True)
    if len(pieces) < 2:
        return text, ""
    count = len(lines) - pieces[1][1].count("\n") - 1
    return "\n".join(lines[:count]), "\n".join(lines[count:])
