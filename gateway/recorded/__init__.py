"""What the audit log says the deployment is: its members, its policy, its files, its starts and stops.

Administrative entries commit to the state that each change led to. What stands in files and databases
counts only as far as the log bears it out.
"""
