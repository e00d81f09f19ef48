"""The officer's tools: reading, testing, explaining and comparing policies, away from the running gateway.

`checking` and `testing` judge one bundle, `covering` its cases; `explanation` and `allowing` one decision;
`matrix` all that is allowed, `differences` and `replay` what another bundle would change.
"""
