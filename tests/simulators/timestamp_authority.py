"""A time-stamping authority: OpenSSL's, behind a small HTTP server that can misbehave."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CONFIG = """\
[ts]
default_tsa = tsa
[tsa]
dir = {directory}
serial = {directory}/serial
crypto_device = builtin
signer_cert = {directory}/signer.pem
signer_key = {directory}/signer.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


class OpensslAuthority:
    """Keys, certificates and `openssl ts -reply`. `ca` is the root that its tokens lead to."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.ca = directory / "ca.pem"
        (directory / "serial").write_text("01\n")
        (directory / "tsa.cnf").write_text(_CONFIG.format(directory=directory))
        now = datetime.now(UTC)
        ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        ca_name, name = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("Time CA", "Time")
        )

        def begin(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
            return (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(ca_name)
                .public_key(public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - timedelta(days=1))
                .not_valid_after(now + timedelta(days=30))
            )

        ca = begin(ca_name, ca_key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        signer = begin(name, key.public_key()).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True
        )
        pem = serialization.Encoding.PEM
        self.ca.write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
        (directory / "signer.pem").write_bytes(signer.sign(ca_key, hashes.SHA256()).public_bytes(pem))
        (directory / "signer.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )

    def reply(self, request: bytes) -> bytes:
        """Return the answer (TimeStampResp, DER) to a request."""
        query, answer = self.directory / "query.tsq", self.directory / "answer.tsr"
        query.write_bytes(request)
        self._openssl("-reply", "-queryfile", query, "-section", "tsa", "-out", answer)
        return answer.read_bytes()

    def request_for(self, content: bytes, digest: str = "sha256") -> bytes:
        """Return a request that OpenSSL makes for `content`, with a nonce of its own."""
        data, query = self.directory / "data", self.directory / "own.tsq"
        data.write_bytes(content)
        self._openssl("-query", "-data", data, f"-{digest}", "-cert", "-out", query)
        return query.read_bytes()

    def _openssl(self, *words: object) -> None:
        command = ["openssl", "ts", *map(str, words), "-config", str(self.directory / "tsa.cnf")]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


Answer = Callable[[bytes], web.Response]


class AuthorityServer:
    """Answers as `authority` does, or as `answer` says while that is set; `hangs` keeps callers waiting."""

    def __init__(self, authority: OpensslAuthority) -> None:
        self.authority = authority
        self.answer: Answer | None = None
        self.hangs = False
        self.asked = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.asked += 1
        body = await request.read()
        if self.hangs:
            await asyncio.Event().wait()
        if self.answer is not None:
            return self.answer(body)
        return token_answer(await asyncio.to_thread(self.authority.reply, body))


def token_answer(token: bytes) -> web.Response:
    """Return the HTTP answer that carries a token."""
    return web.Response(body=token, content_type="application/timestamp-reply")


@asynccontextmanager
async def serving(authority: OpensslAuthority) -> AsyncIterator[AuthorityServer]:
    """Serve on a free port of the loopback address."""
    server = AuthorityServer(authority)
    application = web.Application()
    application.router.add_post("/", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield server
    finally:
        await runner.cleanup()
