"""How received mail is read, where Python's own reading is not enough. ``anymail.inbound`` is the public face."""
