# SPDX-License-Identifier: GPL-2.0-only
"""git:REV: a commit of a repository, with or without a work tree, exactly as it was committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.vm.host.process import run
from harness.vm.kernel import revision as revision_module
from harness.vm.kernel.revision import revision
from harness.vm.kernel.source import located, obtain_source
from harness.vm.kernel.spec import GitSpec, TreeSpec, parse_spec

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress


def git(tree: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=m"]
    return run(
        ["git", "-C", tree, *identity, *arguments], deadline=Deadline.after(30)
    ).stdout.strip()


@pytest.fixture
def repository(fake_tree: Path) -> Path:
    """The fake tree with two commits, v1 and v2, and a change that is not committed."""
    git(fake_tree, "init", "-q")
    # What `git archive` would leave out.
    (fake_tree / ".gitattributes").write_text("Kbuild export-ignore\n")
    for name in ("v1", "v2"):
        (fake_tree / "kernel/livepatch/core.c").write_text(f"/* {name} */\n")
        git(fake_tree, "add", "-A")
        git(fake_tree, "commit", "-q", "-m", name)
        git(fake_tree, "tag", name)
    (fake_tree / "kernel/livepatch/core.c").write_text("/* at work */\n")
    return fake_tree


def content(spec: GitSpec, store: Store, deadline: Deadline, progress: Progress) -> str:
    with located(spec, store=store, deadline=deadline, progress=progress) as source:
        tree = obtain_source(source, store=store, deadline=deadline, progress=progress)
        assert (tree / "Kbuild").is_file()
        return (tree / "kernel/livepatch/core.c").read_text()


@pytest.mark.parametrize("bare", [False, True])
def test_a_revision_without_a_checkout(
    repository: Path,
    tmp_path: Path,
    store: Store,
    soon: Deadline,
    recorder: Progress,
    bare: bool,
) -> None:
    """The commit counts, not the work tree, and nothing in the repository changes."""
    where = repository
    if bare:
        where = tmp_path / "bare.git"
        git(tmp_path, "clone", "-q", "--bare", str(repository), str(where))
    before = git(repository, "status", "--porcelain")
    for name in ("v1", "v2"):
        spec = parse_spec(f"git:{where}#{name}")
        assert spec == GitSpec(revision=name, repository=where)
        assert content(spec, store, soon, recorder) == f"/* {name} */\n"
    assert git(repository, "status", "--porcelain") == before == "M kernel/livepatch/core.c"
    assert (repository / "kernel/livepatch/core.c").read_text() == "/* at work */\n"


def test_the_repository_here(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder it is the current one's repository."""
    monkeypatch.chdir(repository / "kernel")
    assert parse_spec("git:HEAD~1") == GitSpec(revision="HEAD~1", repository=repository / "kernel")


def test_the_commit_is_recorded(repository: Path, soon: Deadline) -> None:
    """The description has the whole hash, and what was typed when that is another word."""
    commit = git(repository, "rev-parse", "v1")
    with revision(GitSpec(revision="v1", repository=repository), soon) as found:
        assert found.description == f"commit {commit} (v1) of {repository}"
    with revision(GitSpec(revision=commit[:12], repository=repository), soon) as found:
        assert found.description == f"commit {commit} of {repository}"


def test_it_is_the_same_as_the_clean_tree(
    repository: Path, store: Store, soon: Deadline, recorder: Progress
) -> None:
    """A checkout of the commit has the same digest, so that it is not built twice."""
    git(repository, "checkout", "-q", "--", ".")
    specs = (GitSpec(revision="HEAD", repository=repository), TreeSpec(path=repository))
    digests = set()
    for spec in specs:
        with located(spec, store=store, deadline=soon, progress=recorder) as source:
            digests.add(source.digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v3", "has no revision 'v3'"),
        ("--all", "has no revision '--all'"),
        ("HEAD:kernel", "has no revision"),
        ("empty", "holds no kernel sources: it lacks"),
    ],
)
def test_what_is_no_revision(repository: Path, soon: Deadline, name: str, said: str) -> None:
    """A word that names no commit, an option, a folder of a commit, another project's commit."""
    git(repository, "stash", "-q")
    git(repository, "checkout", "-q", "--orphan", "empty")
    git(repository, "rm", "-q", "-r", "--cached", ".")
    git(repository, "commit", "-q", "--allow-empty", "-m", "empty")
    with (
        pytest.raises(UsageError, match=said),
        revision(GitSpec(revision=name, repository=repository), soon),
    ):
        pass


def test_no_repository(fake_tree: Path, soon: Deadline, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without git is named as that."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(fake_tree.parent))
    spec = GitSpec(revision="HEAD", repository=fake_tree)
    with pytest.raises(UsageError, match="is no git repository"), revision(spec, soon):
        pass


def test_more_than_a_kernel(
    repository: Path,
    store: Store,
    soon: Deadline,
    recorder: Progress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is far larger than a kernel is refused before it is written to the disk."""
    monkeypatch.setattr(revision_module, "_MOST_BYTES", 10)
    with pytest.raises(UsageError, match="no kernel sources"):
        content(GitSpec(revision="v1", repository=repository), store, soon, recorder)
    assert store.entries("source") == []
