"""What the log's site answers to which path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.audit.bundle import encode_bundle
from gateway.audit.checkpoint import parse_decimal
from gateway.audit.errors import EntryNotFoundError, LogUnavailableError, NoteError, ProofError
from gateway.audit.store import AuditReader
from gateway.audit.tiles import TILE_WIDTH, parse_tile_path

_FOR_EVER: Final = "public, max-age=31536000, immutable"
"""Tiles never change, and neither does the checkpoint of a size."""
_FOR_A_MOMENT: Final = "public, max-age=2"
_RETRY_AFTER_S: Final = "1"
_GZIP_FROM_BYTES: Final = 512


class Checkpoints(Protocol):
    """Which checkpoints the site shows. Both raise as `AuditReader.checkpoint_at` does."""

    def latest(self) -> str:
        """Return the newest checkpoint as a signed note."""
        ...

    def of_size(self, size: int) -> str:
        """Return the checkpoint of exactly `size` entries."""
        ...


class CommittedCheckpoints:
    """Every checkpoint that a commit has ended with, witnessed or not."""

    def __init__(self, reader: AuditReader) -> None:
        self._reader = reader

    def latest(self) -> str:
        """Return the checkpoint over all entries committed so far."""
        return self._reader.checkpoint()

    def of_size(self, size: int) -> str:
        """Return the checkpoint of exactly `size` entries."""
        return self._reader.checkpoint_at(size)


def make_site(reader: AuditReader, checkpoints: Checkpoints, *, with_entries: bool) -> Starlette:
    """Return the site as an ASGI application.

    Without `with_entries` bundles of entries are refused with 403: entries name who asked whom for
    what, and when; hashes and checkpoints prove the log to people who may not read it.
    """
    site = _Site(reader, checkpoints)
    bundles = site.bundle if with_entries else _refuse_bundle
    squeezed = [Middleware(GZipMiddleware, minimum_size=_GZIP_FROM_BYTES)]
    app = Starlette(
        routes=[
            Route("/checkpoint", _answering(site.latest)),
            Route("/checkpoint/{size}", _answering(site.checkpoint)),
            Route("/tile/entries/{rest:path}", _answering(bundles), middleware=squeezed),
            Route("/tile/{rest:path}", _answering(site.tile)),
        ]
    )
    # A path has one spelling; with a slash more or less there is nothing.
    app.router.redirect_slashes = False
    return app


class _Site:
    """The handlers. They read the database, and so run in threads, not in the event loop."""

    def __init__(self, reader: AuditReader, checkpoints: Checkpoints) -> None:
        self._reader = reader
        self._checkpoints = checkpoints

    def latest(self, _: Request) -> Response:
        return _note(self._checkpoints.latest(), _FOR_A_MOMENT)

    def checkpoint(self, request: Request) -> Response:
        return _note(self._checkpoints.of_size(parse_decimal(request.path_params["size"])), _FOR_EVER)

    def tile(self, request: Request) -> Response:
        tile = parse_tile_path(request.scope["path"].removeprefix("/"))
        assert tile.level is not None, "bundles of entries have a route of their own"
        return _binary(self._reader.tile(tile.level, tile.number, tile.width))

    def bundle(self, request: Request) -> Response:
        tile = parse_tile_path(request.scope["path"].removeprefix("/"))
        start = tile.number * TILE_WIDTH
        return _binary(encode_bundle(self._reader.entries(start, start + tile.width)))


def _refuse_bundle(_: Request) -> Response:
    return PlainTextResponse("This site shows the hashes of entries, not the entries.\n", status_code=403)


def _answering(handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Return the handler with its errors turned into answers."""

    def answer(request: Request) -> Response:
        try:
            return handler(request)
        except (EntryNotFoundError, ProofError, NoteError):
            return PlainTextResponse("The log has nothing at this path.\n", status_code=404)
        except LogUnavailableError:
            return PlainTextResponse(
                "The log cannot be read now.\n", status_code=503, headers={"Retry-After": _RETRY_AFTER_S}
            )

    return answer


def _note(text: str, caching: str) -> Response:
    return PlainTextResponse(text, headers={"Cache-Control": caching})


def _binary(content: bytes) -> Response:
    headers = {"Cache-Control": _FOR_EVER}
    return Response(content, media_type="application/octet-stream", headers=headers)
