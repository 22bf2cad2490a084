# SPDX-License-Identifier: GPL-2.0-only
"""Releases of kernel.org: only a tarball counts whose checksum the known key has signed.

The server is on the loopback, and the key is made by the test.
"""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import DownloadFailed, MissingTool, UsageError
from harness.vm.host.process import run
from harness.vm.kernel import releases
from harness.vm.kernel.releases import KernelOrg
from harness.vm.kernel.source import located, obtain_source
from harness.vm.kernel.spec import ReleaseSpec, parse_spec
from harness.vm.kernel.tree import source_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

pytestmark = pytest.mark.skipif(
    shutil.which("gpg") is None, reason="there is no gpg to make the test's key with"
)
SERIES = ("6.6", "6.6.2", "6.6.52", "6.6.9", "6.61.1")


class Signer:
    """A key of the test's own, and its gpg."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._gpg("--passphrase", "", "--quick-generate-key", "test <test@example.org>", "ed25519")
        listed = self._gpg("--with-colons", "--list-keys")
        self.fingerprint = next(
            line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")
        )
        self.armored = self._gpg("--armor", "--export").encode()

    def sign(self, text: str) -> bytes:
        """Return a text, clear-signed."""
        return self._gpg("--clearsign", stdin=text).encode()

    def _gpg(self, *arguments: str, stdin: str | None = None) -> str:
        return run(
            ["gpg", "--homedir", self._home, "--batch", "--quiet", *arguments],
            deadline=Deadline.after(60),
            stdin=stdin,
        ).stdout


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    """The key; gpg's agent ends with it."""
    # A short path: the agent's socket is below it.
    with tempfile.TemporaryDirectory(prefix="klp-gpg-") as name:
        try:
            yield Signer(Path(name))
        finally:
            run(
                ["gpgconf", "--homedir", name, "--kill", "all"],
                deadline=Deadline.after(60),
                check=False,
            )


class Mirror:
    """What the server has, by path, and what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.url = ""


@pytest.fixture
def mirror(
    signer: Signer, fake_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mirror]:
    """A mirror with releases of v6.x, of which all tarballs are the fake tree."""
    made = Mirror()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            content = made.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    tarball = tmp_path / "linux.tar.xz"
    with tarfile.open(tarball, "w:xz") as archive:
        archive.add(fake_tree, "linux-6.6")
    key = tmp_path / "key.asc"
    key.write_bytes(signer.armored)
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    lines = [f"{digest}  linux-{version}.tar.xz" for version in SERIES]
    # Other files of that folder, which are no releases.
    lines += [f"{'0' * 64}  patch-6.6.52.xz", f"{'0' * 64}  linux-6.6.99.tar.gz"]
    made.files["/v6.x/sha256sums.asc"] = signer.sign("\n".join(lines) + "\n")
    for version in SERIES:
        made.files[f"/v6.x/linux-{version}.tar.xz"] = tarball.read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        made.url = f"http://127.0.0.1:{httpd.server_address[1]}"
        monkeypatch.setenv(releases.BASE_VARIABLE, made.url + "/")
        monkeypatch.setenv(releases.KEY_VARIABLE, str(key))
        monkeypatch.setenv(releases.FINGERPRINT_VARIABLE, signer.fingerprint)
        try:
            yield made
        finally:
            httpd.shutdown()
            thread.join()


@pytest.fixture
def resolve(tmp_path: Path, soon: Deadline, recorder: Progress) -> Callable[[str], str]:
    """Return the version that a spec names on the mirror."""

    def call(text: str) -> str:
        spec = parse_spec(text)
        assert isinstance(spec, ReleaseSpec)
        archive = KernelOrg(tmp_path / "kernel.org")
        return archive.resolve(spec, deadline=soon, progress=recorder).version

    return call


@pytest.mark.parametrize(
    ("text", "version"),
    [("v6.6.52", "6.6.52"), ("6.6.2", "6.6.2"), ("v6.6", "6.6"), ("6.6", "6.6.52")],
)
def test_which_release(
    mirror: Mirror, resolve: Callable[[str], str], text: str, version: str
) -> None:
    """With a v, or with three numbers, it is that release; a series is the newest of it."""
    assert resolve(text) == version
    assert mirror.asked == ["/v6.x/sha256sums.asc"]


def test_it_is_fetched_and_verified(
    mirror: Mirror, store: Store, soon: Deadline, recorder: Progress
) -> None:
    """The tree comes from the tarball, and the source says which release of whom it is."""
    with located(ReleaseSpec(version="6.6.52"), store=store, deadline=soon, progress=recorder) as s:
        tree = obtain_source(s, store=store, deadline=soon, progress=recorder)
        assert s.description == "linux-6.6.52 of kernel.org"
    assert source_version(tree) == "6.1.0-fake"
    assert mirror.asked[-1] == "/v6.x/linux-6.6.52.tar.xz"


def test_another_tarball_is_not_kept(
    mirror: Mirror, store: Store, soon: Deadline, recorder: Progress
) -> None:
    """A tarball that is not the signed one is the server's fault, and is not unpacked."""
    mirror.files["/v6.x/linux-6.6.52.tar.xz"] += b"x"
    spec = ReleaseSpec(version="6.6.52")
    with (
        located(spec, store=store, deadline=soon, progress=recorder) as source,
        pytest.raises(DownloadFailed, match="has the SHA-256"),
    ):
        obtain_source(source, store=store, deadline=soon, progress=recorder)
    assert store.entries("source") == []


def _unsigned(signed: bytes) -> bytes:
    return signed.partition(b"-----BEGIN PGP SIGNATURE")[0].partition(b"\n\n")[2]


@pytest.mark.parametrize(
    "damage",
    [
        _unsigned,
        lambda signed: signed.replace(b"linux-6.6.52", b"linux-6.6.53"),
        lambda signed: signed[: len(signed) // 2],
        lambda _: b"",
        lambda _: b"<html>not here</html>",
    ],
    ids=["unsigned", "changed", "cut", "empty", "html"],
)
def test_what_is_not_signed_is_not_used(
    mirror: Mirror, resolve: Callable[[str], str], damage: Callable[[bytes], bytes]
) -> None:
    """Checksums without the key's signature are refused whole."""
    path = "/v6.x/sha256sums.asc"
    mirror.files[path] = damage(mirror.files[path])
    with pytest.raises(DownloadFailed, match="is not signed by the key"):
        resolve("6.6")


def test_text_beside_the_signed_one_does_not_count(
    mirror: Mirror, resolve: Callable[[str], str]
) -> None:
    """A release that is listed outside of what the signature covers is none."""
    path = "/v6.x/sha256sums.asc"
    mirror.files[path] = b"0" * 64 + b"  linux-6.6.77.tar.xz\n\n" + mirror.files[path]
    assert resolve("6.6") == "6.6.52"


def test_the_fingerprint_decides(
    mirror: Mirror, resolve: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A good signature by a key that is at hand, but is not the one that is known, is none."""
    monkeypatch.delenv(releases.FINGERPRINT_VARIABLE)
    with pytest.raises(DownloadFailed, match="B8868C80BA62A1FFFAF5FDA9632D3A06589DA6B1"):
        resolve("6.6")


def test_no_such_release(mirror: Mirror, resolve: Callable[[str], str]) -> None:
    """What kernel.org does not have is wrong usage."""
    with pytest.raises(UsageError, match=r"no release 6\.6\.53"):
        resolve("v6.6.53")
    with pytest.raises(UsageError, match=r"no release of the series 6\.99"):
        resolve("6.99")


def test_what_is_known_needs_no_network(
    mirror: Mirror, resolve: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    """Checksums are kept: an exact release is not asked for again, a series after a day."""
    assert resolve("6.6") == "6.6.52"
    mirror.files.clear()
    assert resolve("6.6") == "6.6.52"
    assert resolve("v6.6.9") == "6.6.9"
    assert len(mirror.asked) == 1


def test_an_old_answer_is_better_than_none(
    mirror: Mirror,
    resolve: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A day later, without the server, the newest that is known is used, with a warning."""
    assert resolve("6.6") == "6.6.52"
    mirror.files.clear()
    monkeypatch.setattr(releases, "_FRESH_S", 0.0)
    assert resolve("6.6") == "6.6.52"
    assert "using linux-6.6.52 as found before" in caplog.text


def test_a_server_that_is_not_there(
    mirror: Mirror, resolve: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network is the host's fault, and the sentence names what to set."""
    monkeypatch.setenv(releases.BASE_VARIABLE, "http://127.0.0.1:1")
    with pytest.raises(DownloadFailed, match="cannot be fetched") as caught:
        resolve("6.6")
    assert releases.BASE_VARIABLE in str(caught.value.hint)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (releases.BASE_VARIABLE, "file:///etc", "no http or https URL"),
        (releases.KEY_VARIABLE, "/nowhere/key.asc", "names no file"),
        (releases.FINGERPRINT_VARIABLE, "123", "no fingerprint"),
    ],
)
def test_variables_are_checked(
    mirror: Mirror,
    resolve: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    said: str,
) -> None:
    """A variable that is set wrongly is wrong usage."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=said):
        resolve("6.6")


def test_without_gpgv(
    mirror: Mirror,
    resolve: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Nothing is trusted unseen when the signature cannot be verified."""
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(MissingTool, match="gpgv"):
        resolve("6.6")


def test_the_name_in_a_key_directory() -> None:
    """The example of the Web Key Directory's draft: Joe.Doe, in lower case."""
    assert releases._wkd_hash("joe.doe") == "iy9q119eutrkn8s1mk4r39qejnbu3n5q"
