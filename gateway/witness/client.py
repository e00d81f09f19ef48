"""Asking a witness over HTTP to cosign our checkpoints (c2sp.org/tlog-witness)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.errors import (
    LogForkedError,
    LogMismatchError,
    LogRolledBackError,
    NoteError,
    WitnessUnavailableError,
)
from gateway.audit.note import MAX_NOTE_CHARACTERS, NoteSignature, parse_signature_lines
from gateway.audit.publication import LogHistory
from gateway.audit.witness_policy import KnownWitness
from gateway.clock import Clock, system_clock
from gateway.errors import ConfigError
from gateway.witness.judgement import Answer
from gateway.witness.submission import SIZE_MEDIA_TYPE, Submission, checkpoint_path, parse_size

MAX_ANSWER_BYTES: Final = MAX_NOTE_CHARACTERS
MAX_CLOCK_AHEAD: Final = timedelta(minutes=5)
"""A cosignature may be this much ahead of our clock."""

_OK: Final = 200
_ATTEMPTS: Final = 3
"""One with the size we believe the witness to have, one with the size it names, one if it moved on since."""


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    media_type: str
    body: bytes


class WitnessClient:
    """One witness, asked over a shared HTTP session. Remembers the size that the witness cosigned last."""

    def __init__(
        self, witness: KnownWitness, session: aiohttp.ClientSession, *, clock: Clock = system_clock
    ) -> None:
        """Take a witness of the policy; raise `ConfigError` unless it has an http or https URL."""
        url = witness.url or ""
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise ConfigError(
                f"The witness {witness.name} of the witness policy has no URL; end its line with one: "
                "witness NAME VKEY https://…"
            )
        self.name = witness.name
        self._verifier = witness.verifier
        self._prefix = url.rstrip("/")
        self._session = session
        self._clock = clock
        self._size = 0

    async def cosign(
        self, note: str, checkpoint: Checkpoint, history: LogHistory
    ) -> tuple[NoteSignature, ...]:
        """Return the witness's cosignatures over the checkpoint in `note`; see `AskedWitness.cosign`.

        Cosignatures count only once they verify with the key in the policy and name a time that is not ahead
        of our clock.
        """
        for _ in range(_ATTEMPTS):
            old_size = min(self._size, checkpoint.size)
            hashes = await asyncio.to_thread(history.consistency_proof, old_size, checkpoint.size)
            reply = await self._post(Submission(old_size, hashes, note, checkpoint).to_bytes())
            if reply.status == _OK:
                signatures = self._accept(reply.body, checkpoint)
                self._size = checkpoint.size
                return signatures
            if reply.status == Answer.CONFLICT and reply.media_type == SIZE_MEDIA_TYPE:
                self._size = self._read_size(reply.body)
                if self._size > checkpoint.size:
                    await self._examine_larger(history)
                if self._size != old_size:
                    continue
            if reply.status in {Answer.CONFLICT, Answer.INCONSISTENT}:
                raise await self._contradiction(history)
            raise self._unavailable(f"answered {reply.status}")
        raise self._unavailable("kept moving on")

    async def _examine_larger(self, history: LogHistory) -> None:
        """Raise, because the witness has seen more entries than the checkpoint that was to be cosigned has.

        Another process may have submitted a newer checkpoint meanwhile: that is no fault, and passes.
        """
        if self._size <= await asyncio.to_thread(history.size):
            raise self._unavailable("has cosigned a newer checkpoint already")
        raise await self._contradiction(history)

    async def _contradiction(self, history: LogHistory) -> LogMismatchError | WitnessUnavailableError:
        """Return what follows from a witness that refuses our history: ask it for the checkpoint it cosigned.

        A checkpoint with our own log's signature is proof; without one it is the witness's word. The word of
        a witness that the operator chose to trust also stops the log: somebody must look.
        """
        seen = await self._latest_of(history)
        if seen is None:
            size = self._size
            if size > await asyncio.to_thread(history.size):
                return self._rolled_back(size, "claimed")
            return self._forked(size, "claimed")
        if seen.size > await asyncio.to_thread(history.size):
            return self._rolled_back(seen.size, "signed")
        if await asyncio.to_thread(history.root, seen.size) != seen.root:
            return self._forked(seen.size, "signed")
        return self._unavailable("refused a history that agrees with its own checkpoint")

    async def _latest_of(self, history: LogHistory) -> Checkpoint | None:
        """Return the checkpoint the witness shows of our log, signed by our log; None if it shows none."""
        try:
            reply = await self._get(checkpoint_path(history.origin))
            if reply.status != _OK:
                return None
            return open_checkpoint(reply.body.decode(), [history.verifier], origin=history.origin)
        except (WitnessUnavailableError, UnicodeDecodeError, NoteError):
            # Whatever it shows is no proof, and is treated as if it showed nothing.
            return None

    def _accept(self, body: bytes, checkpoint: Checkpoint) -> tuple[NoteSignature, ...]:
        """Return the lines by the witness's key, all of which must verify; lines by others are ignored."""
        text = checkpoint.to_text()
        latest_s = int((self._clock() + MAX_CLOCK_AHEAD).timestamp())
        try:
            lines = parse_signature_lines(body.decode())
            accepted = tuple(
                line
                for line in lines
                if (line.name, line.key_id) == (self._verifier.name, self._verifier.key_id)
            )
            times_s = [self._verifier.cosigned_at_s(text, line.signature) for line in accepted]
        except (UnicodeDecodeError, NoteError) as error:
            raise self._unavailable("sent a cosignature that does not verify") from error
        if not accepted:
            raise self._unavailable("sent no cosignature by the key in the witness policy")
        if not all(0 < time_s <= latest_s for time_s in times_s):
            raise self._unavailable("sent a cosignature without a time, or of a time to come")
        return accepted

    def _read_size(self, body: bytes) -> int:
        try:
            return parse_size(body)
        except NoteError as error:
            raise self._unavailable("named a tree size that is none") from error

    async def _post(self, body: bytes) -> _Reply:
        return await self._request("POST", "add-checkpoint", body)

    async def _get(self, path: str) -> _Reply:
        return await self._request("GET", path)

    async def _request(self, method: str, path: str, body: bytes | None = None) -> _Reply:
        headers: Mapping[str, str] = {"Accept-Encoding": "identity"}
        try:
            async with self._session.request(
                method, f"{self._prefix}/{path}", headers=headers, allow_redirects=False, data=body
            ) as response:
                # One byte more than allowed tells a long answer from one that just fits.
                answer = bytearray()
                async for chunk in response.content.iter_chunked(64 * 1024):
                    answer += chunk
                    if len(answer) > MAX_ANSWER_BYTES:
                        raise self._unavailable("sent an answer that is too long")
                return _Reply(response.status, response.headers.get("Content-Type", ""), bytes(answer))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._unavailable("cannot be reached") from error

    def _unavailable(self, what: str) -> WitnessUnavailableError:
        return WitnessUnavailableError(
            f"The witness {self.name} {what}; checkpoints go without its cosignature until it is well again.",
            witness=self.name,
        )

    def _rolled_back(self, size: int, evidence: str) -> LogRolledBackError:
        return LogRolledBackError(
            f"The witness {self.name} has cosigned {size} entries of this log, which has fewer here: it was "
            "rolled back, as by restoring an old copy. Do not append. Restore the newest copy; if there is "
            "none, keep this one for reading and begin a new log under a new origin.",
            witness=self.name,
            size=size,
            evidence=evidence,
        )

    def _forked(self, size: int, evidence: str) -> LogForkedError:
        return LogForkedError(
            f"The witness {self.name} has cosigned another history of this log, at {size} entries: it was "
            "forked. Do not append. Keep both, find out who else holds the log's key, and begin a new log "
            "under a new origin and key.",
            witness=self.name,
            size=size,
            evidence=evidence,
        )
