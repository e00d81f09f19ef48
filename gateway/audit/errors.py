"""What can go wrong with the log, its notes and its proofs."""

from __future__ import annotations

from gateway.errors import ConfigError, GatewayError, Reason


class ProofError(GatewayError):
    """A proof is malformed or does not prove what it is shown for."""

    reason = Reason.PROOF_INVALID


class InclusionProofError(ProofError):
    """An inclusion proof does not bind the leaf to the root."""


class ConsistencyProofError(ProofError):
    """A consistency proof does not show that the newer tree extends the older."""


class NoteError(GatewayError):
    """A signed note, verifier key or checkpoint is not in its exact form."""

    reason = Reason.PROOF_INVALID


class EmptyRootError(NoteError):
    """A checkpoint of size 0 has another root than that of the empty tree."""


class NoteSignatureError(NoteError):
    """A note carries no signature by a trusted key, or one that does not verify."""

    reason = Reason.SIGNATURE_INVALID


class WitnessPolicyError(ConfigError):
    """A witness policy is not in its form; the message names the line, `details["line"]` too."""


class WitnessQuorumError(ProofError):
    """A checkpoint carries fewer cosignatures than the witness policy asks for."""


class WitnessUnavailableError(GatewayError):
    """A witness did not answer, or with something of no use. Lowers the evidence, stops nothing."""

    reason = Reason.WITNESS_UNAVAILABLE


class LogUnavailableError(GatewayError):
    """The log cannot be written or read now; nothing may be released. May pass by itself."""

    reason = Reason.LOG_UNAVAILABLE


class LogMismatchError(LogUnavailableError):
    """The stored log contradicts its identity, its checkpoint or itself; a person must look at it."""


class LogRolledBackError(LogMismatchError):
    """A witness or the anchor has seen the log larger than it is: an older copy was put in its place."""


class LogForkedError(LogMismatchError):
    """A witness or the anchor has seen the log with other entries: there are two histories."""


class LogClosedError(LogUnavailableError):
    """The log was closed for good; another one goes on from it."""


class LogOverloadedError(GatewayError):
    """More entries wait for the log than the queue may hold."""

    reason = Reason.OVERLOADED


class OnceTakenError(GatewayError):
    """The entry's once-key was claimed before and has not expired; the entry was not appended."""

    reason = Reason.REPLAYED


class EntryTooLargeError(GatewayError):
    """The canonical form of an entry exceeds the limit of 16 KiB."""

    reason = Reason.MESSAGE_TOO_LARGE


class EntryNotFoundError(GatewayError):
    """The log holds no such entry, checkpoint, tile or tree size."""

    reason = Reason.ENTRY_NOT_FOUND
