"""The command line: nouns then verbs, one module for each.

`main` is the entry point and knows the commands by name; their modules are imported when they are
called. `output` prints, `failures` turns errors into text and exit codes, `exits` names the codes.
"""
