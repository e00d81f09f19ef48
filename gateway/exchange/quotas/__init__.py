"""What an exchange counts on accounts, and what the log says should stand on them."""
