"""Contributions: records that a company gives under a contract, checked, signed for, and put into the vault.

The way of one batch is in `gateway.contributions.service`, from top to bottom.
"""
