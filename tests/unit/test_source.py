# SPDX-License-Identifier: GPL-2.0-only
"""Sources from trees, tarballs and URLs: named by their content, copied clean, never written to."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import shutil
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import DownloadFailed, UsageError
from harness.vm.host.process import run
from harness.vm.kernel.source import located, obtain_source
from harness.vm.kernel.spec import TarballSpec, TreeSpec, UrlSpec
from harness.vm.kernel.tree import opened, source_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

    Spec = TreeSpec | TarballSpec | UrlSpec


def git(tree: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=m"]
    done = run(["git", "-C", tree, *identity, *arguments], deadline=Deadline.after(30))
    return done.stdout.strip()


@pytest.fixture
def git_tree(fake_tree: Path) -> Path:
    """The fake tree in a git repository, one commit, with ignored products beside it."""
    (fake_tree / ".gitignore").write_text("*.o\n.config\n/include/config/\n")
    git(fake_tree, "init", "-q")
    git(fake_tree, "add", "-A")
    git(fake_tree, "commit", "-q", "-m", "first")
    return fake_tree


@pytest.fixture
def digest(soon: Deadline) -> Callable[[Path], str]:
    """Return the name of a tree's content."""

    def call(path: Path) -> str:
        with opened(path, soon) as tree:
            return tree.digest

    return call


@pytest.fixture
def obtain(store: Store, soon: Deadline, recorder: Progress) -> Callable[[Spec], Path]:
    """Return the clean tree in the cache."""

    def call(spec: Spec) -> Path:
        with located(spec, store=store, deadline=soon, progress=recorder) as source:
            return obtain_source(source, store=store, deadline=soon, progress=recorder)

    return call


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_version_of_a_tree(fake_tree: Path) -> None:
    """It is what the Makefile says."""
    assert source_version(fake_tree) == "6.1.0-fake"


@pytest.mark.parametrize(
    ("remove", "said"),
    [("Makefile", "names no kernel version"), ("kernel/livepatch/Kconfig", "it lacks kernel/live")],
)
def test_a_tree_that_is_no_kernel(fake_tree: Path, soon: Deadline, remove: str, said: str) -> None:
    """A folder without a kernel's Makefile, or without what livepatch needs, is refused."""
    (fake_tree / remove).unlink()
    with pytest.raises(UsageError, match=said), opened(fake_tree, soon):
        pass


def test_a_build_folder_given_as_tree(tmp_path: Path, soon: Deadline) -> None:
    """Who gives a build instead of sources is told how."""
    (tmp_path / "arch/x86/boot").mkdir(parents=True)
    (tmp_path / "arch/x86/boot/bzImage").touch()
    (tmp_path / "vmlinux").touch()
    with pytest.raises(UsageError, match="no kernel sources") as caught, opened(tmp_path, soon):
        pass
    assert caught.value.hint is not None
    assert "build:" in caught.value.hint


class TestGit:
    """A git work tree is what git would commit now."""

    def test_each_change_counts(self, git_tree: Path, digest: Callable[[Path], str]) -> None:
        """Edited, added, removed, made executable: all of them change the digest."""
        seen = {digest(git_tree)}
        (git_tree / "Kbuild").write_text("# changed\n")
        seen.add(digest(git_tree))
        (git_tree / "new.c").write_text("int new;\n")
        seen.add(digest(git_tree))
        (git_tree / "new.c").chmod(0o755)
        seen.add(digest(git_tree))
        (git_tree / "arch/x86/Kconfig").write_text("x\n")
        (git_tree / "Kbuild").unlink()
        (git_tree / "Kbuild").write_text("# changed\n")
        seen.add(digest(git_tree))
        assert len(seen) == 5

    def test_ignored_files_do_not_count(
        self, git_tree: Path, digest: Callable[[Path], str]
    ) -> None:
        """What a build leaves in the tree does not make another kernel of it."""
        before = digest(git_tree)
        (git_tree / "main.o").touch()
        (git_tree / ".config").touch()
        assert digest(git_tree) == before

    def test_committing_changes_nothing(
        self, git_tree: Path, digest: Callable[[Path], str]
    ) -> None:
        """The same content has the same name before and after it is committed."""
        (git_tree / "Kbuild").write_text("# changed\n")
        before = digest(git_tree)
        git(git_tree, "commit", "-qam", "second")
        assert digest(git_tree) == before

    def test_the_copy_is_the_content(self, git_tree: Path, obtain: Callable[[Spec], Path]) -> None:
        """Uncommitted changes are in the copy, ignored files are not, the tree stays as it is."""
        (git_tree / "Kbuild").write_text("# changed\n")
        (git_tree / "new.c").write_text("int new;\n")
        (git_tree / "main.o").touch()
        git(git_tree, "add", "new.c")
        before = snapshot(git_tree)
        status = git(git_tree, "status", "--porcelain")
        copy = obtain(TreeSpec(path=git_tree))
        assert (copy / "Kbuild").read_text() == "# changed\n"
        assert (copy / "new.c").exists()
        assert not (copy / "main.o").exists()
        assert not (copy / ".git").exists()
        assert snapshot(git_tree).keys() == before.keys()
        after = {name: state for name, state in snapshot(git_tree).items() if ".git/" not in name}
        assert after == {name: state for name, state in before.items() if ".git/" not in name}
        assert git(git_tree, "status", "--porcelain") == status

    def test_a_work_tree_of_another_repository(
        self, git_tree: Path, tmp_path: Path, digest: Callable[[Path], str]
    ) -> None:
        """`git worktree` has its .git in a file, and its index elsewhere."""
        git(git_tree, "worktree", "add", "-q", str(tmp_path / "second"))
        assert digest(tmp_path / "second") == digest(git_tree)

    def test_git_that_cannot_read_it(self, git_tree: Path, soon: Deadline) -> None:
        """A damaged repository is wrong usage, with git's words."""
        shutil.rmtree(git_tree / ".git/refs")
        with pytest.raises(UsageError, match="git cannot read"), opened(git_tree, soon):
            pass


class TestPlain:
    """A tree without git is read whole."""

    def test_each_change_counts(self, fake_tree: Path, digest: Callable[[Path], str]) -> None:
        """Content, name and the x bit count; products of a build do not."""
        seen = {digest(fake_tree)}
        (fake_tree / "Kbuild").write_text("# changed\n")
        seen.add(digest(fake_tree))
        (fake_tree / "Kbuild").chmod(0o755)
        seen.add(digest(fake_tree))
        (fake_tree / "new.c").touch()
        seen.add(digest(fake_tree))
        (fake_tree / "new.c").rename(fake_tree / "other.c")
        seen.add(digest(fake_tree))
        (fake_tree / "link").symlink_to("other.c")
        seen.add(digest(fake_tree))
        assert len(seen) == 6
        (fake_tree / "main.o").touch()
        (fake_tree / ".config").touch()
        assert digest(fake_tree) in seen

    def test_the_copy_is_clean(self, fake_tree: Path, obtain: Callable[[Spec], Path]) -> None:
        """A tree that was built in is copied without the build."""
        (fake_tree / "include/config").mkdir(parents=True)
        (fake_tree / "include/config/auto.conf").touch()
        (fake_tree / "main.o").touch()
        (fake_tree / "link").symlink_to("Kbuild")
        before = snapshot(fake_tree)
        copy = obtain(TreeSpec(path=fake_tree))
        assert not (copy / "include/config").exists()
        assert not (copy / "main.o").exists()
        assert (copy / "link").is_symlink()
        assert os.access(copy / "Makefile", os.R_OK)
        assert snapshot(fake_tree) == before


@pytest.fixture
def tarball(fake_tree: Path, tmp_path: Path) -> Path:
    """The fake tree as a tarball."""
    path = tmp_path / "linux-6.1.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        archive.add(fake_tree, "linux-6.1")
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TestTarball:
    """A tarball is named by its own digest."""

    def test_it_is_unpacked(self, tarball: Path, obtain: Callable[[Spec], Path]) -> None:
        """The one folder at its top becomes the tree."""
        tree = obtain(TarballSpec(path=tarball, sha256=sha256(tarball)))
        assert source_version(tree) == "6.1.0-fake"
        assert [path.name for path in tree.parent.iterdir() if path.is_dir()] == ["linux"]

    def test_a_wrong_sum(self, tarball: Path, obtain: Callable[[Spec], Path]) -> None:
        """Both sums are in the message, and nothing is unpacked."""
        with pytest.raises(UsageError, match=sha256(tarball)):
            obtain(TarballSpec(path=tarball, sha256="0" * 64))

    def test_a_tarball_that_is_cut_off(
        self, tarball: Path, obtain: Callable[[Spec], Path], store: Store
    ) -> None:
        """It is told as that, and no half tree is kept."""
        tarball.write_bytes(tarball.read_bytes()[:-500])
        with pytest.raises(UsageError, match="cut off, damaged or no tar archive"):
            obtain(TarballSpec(path=tarball, sha256=None))
        assert store.entries("source") == []
        assert not list(store.root.glob("source/.*"))

    def test_a_tarball_of_something_else(
        self, tmp_path: Path, obtain: Callable[[Spec], Path], store: Store
    ) -> None:
        """One that holds no kernel, and one that holds several folders."""
        (tmp_path / "one/sub").mkdir(parents=True)
        (tmp_path / "two").mkdir()
        for names, said in ((["one"], "no kernel sources"), (["one", "two"], "2 folders")):
            path = tmp_path / "x.tar.gz"
            with tarfile.open(path, "w:gz") as archive:
                for name in names:
                    archive.add(tmp_path / name, name)
            with pytest.raises(UsageError, match=said):
                obtain(TarballSpec(path=path, sha256=None))
        assert store.entries("source") == []


class _Server(http.server.BaseHTTPRequestHandler):
    content = b""
    promised: int | None = None

    def do_GET(self) -> None:
        if self.path != "/linux.tar.xz":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.promised or len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[type[_Server], str]]:
    """A web server on the loopback, with what it serves."""
    handler = type("Handler", (_Server,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield handler, f"http://127.0.0.1:{httpd.server_address[1]}/linux.tar.xz"
        finally:
            httpd.shutdown()
            thread.join()


class TestUrl:
    """A URL is fetched once, and kept only when its content is what was promised."""

    def test_it_is_fetched(
        self,
        server: tuple[type[_Server], str],
        tarball: Path,
        obtain: Callable[[Spec], Path],
    ) -> None:
        """The second time nothing is fetched."""
        handler, url = server
        handler.content = tarball.read_bytes()
        spec = UrlSpec(url=url, sha256=sha256(tarball))
        tree = obtain(spec)
        assert source_version(tree) == "6.1.0-fake"
        assert [path.name for path in tree.parent.iterdir() if path.is_dir()] == ["linux"]
        handler.content = b"other"
        assert obtain(spec) == tree

    @pytest.mark.parametrize("case", ["wrong", "short", "missing", "refused"])
    def test_what_can_go_wrong(
        self,
        server: tuple[type[_Server], str],
        tarball: Path,
        obtain: Callable[[Spec], Path],
        store: Store,
        case: str,
    ) -> None:
        """Other content, less of it, no such file, nobody there: a sentence, and nothing kept."""
        handler, url = server
        handler.content = tarball.read_bytes()
        said = {
            "wrong": "has the SHA-256",
            "short": "ended after|cannot be fetched",
            "missing": "404",
            "refused": "cannot be fetched",
        }[case]
        if case == "wrong":
            handler.content = b"something else"
        elif case == "short":
            handler.promised = len(handler.content) + 1000
        elif case == "missing":
            url += ".nowhere"
        else:
            url = "http://127.0.0.1:1/linux.tar.xz"
        with pytest.raises(DownloadFailed, match=said):
            obtain(UrlSpec(url=url, sha256=sha256(tarball)))
        assert store.entries("source") == []
        with contextlib.suppress(FileNotFoundError):
            assert not list((store.root / "source").glob(".*"))
