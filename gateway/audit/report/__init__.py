"""Reports: entries of the log in a file for other programs, with a signed manifest beside it."""
