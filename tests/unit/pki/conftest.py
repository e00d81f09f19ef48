from datetime import timedelta

import pytest

from gateway.clock import FixedClock, system_clock
from gateway.pki.authority import CertificateAuthority


@pytest.fixture(scope="session")
def authority():
    """An authority that began a year ago, so that certificates of the past can be issued under it."""
    began = FixedClock(system_clock() - timedelta(days=365))
    made = CertificateAuthority.create("test authority", 3650, clock=began)
    return at(made, system_clock())


@pytest.fixture(scope="session")
def other_authority():
    return CertificateAuthority.create("other authority", 3650)


def at(authority, moment):
    """The same authority at another time."""
    return CertificateAuthority(authority._certificate, authority._key, FixedClock(moment))


@pytest.fixture(scope="session")
def issue_at(authority):
    def issue(moment, subject, **wanted):
        return at(authority, moment).issue(subject, **wanted)

    return issue


@pytest.fixture
def save(tmp_path):
    """Writes a certificate and key; returns their paths. Replaces what is there in one step each."""

    def write(issued, name="server"):
        cert, key = tmp_path / f"{name}.cert.pem", tmp_path / f"{name}.key.pem"
        new_cert, new_key = tmp_path / "new.cert.pem", tmp_path / "new.key.pem"
        issued.save(new_cert, new_key)
        new_cert.replace(cert)
        new_key.replace(key)
        return cert, key

    return write


@pytest.fixture
def server_files(authority, tmp_path, save):
    """Certificate, key and client authority of a server on this machine."""
    cert, key = save(issue_server(authority))
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.certificate_pem)
    return cert, key, trusted


def issue_server(authority):
    return authority.issue("server", dns=["localhost"], ips=["127.0.0.1"], valid_days=30)


@pytest.fixture
def new_server(authority):
    return lambda: issue_server(authority)
