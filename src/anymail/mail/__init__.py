"""The vocabulary of a message that goes out: addresses, attachments, statuses, and the message itself."""
