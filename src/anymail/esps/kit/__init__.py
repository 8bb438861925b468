"""What the ESPs' folders share. Nothing in here knows an ESP."""
