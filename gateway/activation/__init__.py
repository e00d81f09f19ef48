"""Putting a policy into force by two people: what they sign, where it is kept, how running nodes follow.

The audit log says which bundle is in force: the newest entry `policy.activated`. Bundle and signatures lie
in the deployment's database and count only as far as the log and the signers' keys bear them out.
"""
