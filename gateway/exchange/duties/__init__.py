"""What policy demands of an exchange as a whole, carried out: read `performing` first, it has the hooks."""
