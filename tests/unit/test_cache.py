# SPDX-License-Identifier: GPL-2.0-only
"""The store keeps whole entries or none, fills each once, and mends what is damaged."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.deadline import Deadline, wait_until
from harness.errors import HarnessError, NoSpace
from harness.vm.host import cache, files
from harness.vm.host.cache import Store
from harness.vm.host.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable

    Fork = Callable[[Callable[[], object]], int]


def fill_with(content: str, calls: list[str] | None = None) -> Callable[[Path], None]:
    """Return a fill function that writes one file, and a link to it, in a subfolder."""

    def fill(folder: Path) -> None:
        if calls is not None:
            calls.append(content)
        (folder / "sub").mkdir()
        (folder / "sub/file").write_text(content)
        (folder / "link").symlink_to("sub/file")

    return fill


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_an_entry_is_filled_once(store: Store, soon: Deadline) -> None:
    """The second request gets the first one's files and does not fill again."""
    calls: list[str] = []
    first = store.obtain("kind", "key", fill_with("a", calls), deadline=soon)
    second = store.obtain("kind", "key", fill_with("b", calls), deadline=soon)
    assert first == second
    assert (second / "link").read_text() == "a"
    assert calls == ["a"]


def test_an_entry_appears_as_a_whole(store: Store, soon: Deadline) -> None:
    """The folder that was filled is the entry: renamed into place, not copied file by file."""
    filled: list[int] = []

    def fill(folder: Path) -> None:
        filled.append(folder.stat().st_ino)
        (folder / "file").write_text("a")

    assert store.obtain("kind", "key", fill, deadline=soon).stat().st_ino == filled[0]


def test_another_process_finds_the_entry(store: Store, soon: Deadline) -> None:
    """A store made anew over the same folder sees the same entries."""
    store.obtain("kind", "key", fill_with("a"), deadline=soon)
    assert Store(store.root).find("kind", "key") == store.root / "kind/key"
    assert Store(store.root).find("kind", "other") is None


def test_a_fill_that_fails_leaves_nothing(store: Store, soon: Deadline) -> None:
    """What a failed fill wrote is not there, and the next one starts from an empty folder."""

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise HarnessError("no")

    with pytest.raises(HarnessError, match="no"):
        store.obtain("kind", "key", fail, deadline=soon)
    assert store.find("kind", "key") is None
    assert not list((store.root / "kind").glob(".*"))
    path = store.obtain("kind", "key", fill_with("a"), deadline=soon)
    assert not (path / "half").exists()


def test_ctrl_c_leaves_nothing(store: Store, soon: Deadline) -> None:
    """An interrupted fill is removed and the lock is free."""

    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.obtain("kind", "key", interrupted, deadline=soon)
    assert not list((store.root / "kind").glob(".*"))
    store.obtain("kind", "key", fill_with("a"), deadline=soon)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_text("longer"),
        lambda file: file.write_text("b"),
        lambda file: file.unlink(),
        lambda file: (file.parent.parent / MANIFEST).write_text('{"format": 1, "fi'),
        lambda file: (file.parent.parent / MANIFEST).unlink(),
    ],
    ids=["size", "content", "missing", "cut-off-manifest", "no-manifest"],
)
def test_a_damaged_entry_is_made_again(
    store: Store, soon: Deadline, damage: Callable[[Path], object]
) -> None:
    """An entry that does not match its manifest is never handed out."""
    path = store.obtain("kind", "key", fill_with("a"), deadline=soon)
    damage(path / "sub/file")
    again = Store(store.root).obtain("kind", "key", fill_with("new"), deadline=soon)
    assert (again / "sub/file").read_text() == "new"


def test_a_file_of_another_size_is_noticed_at_once(store: Store, soon: Deadline) -> None:
    """A cut-off file shows by its size alone, whatever its time says."""
    path = store.obtain("kind", "key", fill_with("whole"), deadline=soon)
    file = path / "sub/file"
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_text("cut")
    os.utime(file, ns=times)
    assert store.find("kind", "key") is None


def test_content_is_read_once_after_each_boot(
    store: Store, soon: Deadline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage that changes neither size nor time shows after a boot of the host, not before."""
    path = store.obtain("kind", "key", fill_with("a"), deadline=soon)
    file = path / "sub/file"
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_text("b")
    os.utime(file, ns=times)
    assert store.find("kind", "key") == path
    (tmp_path / "boot_id").write_text("another boot\n")
    monkeypatch.setattr(files, "BOOT_ID", tmp_path / "boot_id")
    assert store.find("kind", "key") is None


@settings(max_examples=25, deadline=None)
@given(
    files=st.dictionaries(
        st.text("abcdef", min_size=1, max_size=8), st.binary(max_size=64), min_size=1, max_size=5
    ),
    data=st.data(),
)
def test_any_flipped_byte_is_noticed(files: dict[str, bytes], data: st.DataObject) -> None:
    """Whatever the files are: one changed byte, and the entry is not handed out as it is."""

    def fill(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).write_bytes(content)

    with tempfile.TemporaryDirectory() as root:
        store = Store(Path(root))
        path = store.obtain("kind", "key", fill, deadline=Deadline.after(60))
        assert store.find("kind", "key") == path
        name = data.draw(st.sampled_from(sorted(files)))
        content = bytearray(files[name] or b"\0")
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        (path / name).write_bytes(content)
        os.utime(path / name, ns=(0, 0))
        assert store.find("kind", "key") is None
        store.release("kind", "key")


def test_two_processes_fill_once(store: Store, soon: Deadline, in_child: Fork) -> None:
    """The one that comes second waits, says so once, and gets what the first one made."""
    log = store.root.parent / "log"
    started, go_on = store.root.parent / "started", store.root.parent / "go-on"

    def slow_fill(folder: Path) -> None:
        with log.open("a") as file:
            file.write("filled\n")
        started.touch()
        assert wait_until(go_on.exists, soon)
        (folder / "file").write_text("first")

    first = in_child(lambda: store.obtain("kind", "key", slow_fill, deadline=soon))
    assert wait_until(started.exists, soon)
    waits: list[bool] = []

    def waiting() -> None:
        waits.append(True)
        go_on.touch()

    path = store.obtain("kind", "key", slow_fill, deadline=soon, on_wait=waiting)
    assert exit_code(first) == 0
    assert waits == [True]
    assert (path / "file").read_text() == "first"
    assert log.read_text() == "filled\n"


def test_a_wait_names_the_process_that_fills(store: Store, soon: Deadline, in_child: Fork) -> None:
    """When time is up, the error names the process that still fills."""
    started = store.root.parent / "started"

    def endless(folder: Path) -> None:
        started.touch()
        wait_until(lambda: False, soon)

    child = in_child(lambda: store.obtain("kind", "key", endless, deadline=soon))
    try:
        assert wait_until(started.exists, soon)
        with pytest.raises(HarnessError, match=f"process {child} "):
            store.obtain("kind", "key", fill_with("a"), deadline=Deadline.after(0.2))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_killed_fill_is_swept(store: Store, soon: Deadline, in_child: Fork) -> None:
    """kill -9 while filling: the lock is free, the entry is not there, the next run makes it."""

    def killed(folder: Path) -> None:
        (folder / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

    child = in_child(lambda: store.obtain("kind", "key", killed, deadline=soon))
    assert exit_code(child) == -signal.SIGKILL
    assert len(list((store.root / "kind").glob(".partial-*"))) == 1
    assert store.find("kind", "key") is None
    path = store.obtain("kind", "key", fill_with("a"), deadline=soon)
    assert (path / "sub/file").read_text() == "a"
    assert not list((store.root / "kind").glob(".partial-*"))


def test_sweep_removes_dead_leftovers_only(store: Store, soon: Deadline, in_child: Fork) -> None:
    """Sweeping takes what killed processes left of any key, and nothing that grows just now."""
    dead = store.root / "kind/.partial-dead~0011"

    def fill(folder: Path) -> None:
        dead.mkdir(parents=True)
        child = in_child(lambda: None if Store(store.root).sweep() == 1 else os._exit(2))
        assert exit_code(child) == 0
        assert folder.is_dir()

    store.obtain("kind", "key", fill, deadline=soon)
    assert not dead.exists()


def test_an_entry_in_use_is_not_removed(store: Store, soon: Deadline, in_child: Fork) -> None:
    """Another process cannot take an entry from under one that obtained it."""
    store.obtain("kind", "key", fill_with("a"), deadline=soon)

    def remove() -> None:
        os._exit(7 if Store(store.root).remove("kind", "key") else 8)

    assert exit_code(in_child(remove)) == 8
    assert store.find("kind", "key") is not None
    store.release("kind", "key")
    assert exit_code(in_child(remove)) == 7
    assert store.find("kind", "key") is None


def test_threads_share_one_hold(
    store: Store, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads that come at once leave no lock behind that nobody can release."""
    store.obtain("kind", "key", fill_with("a"), deadline=soon)
    store.release("kind", "key")
    meet = threading.Barrier(2)
    take = cache._shared_lock

    def slow(path: Path) -> int:
        with contextlib.suppress(threading.BrokenBarrierError):
            meet.wait(0.5)
        return take(path)

    monkeypatch.setattr(cache, "_shared_lock", slow)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(store.find, ["kind"] * 2, ["key"] * 2))
    store.release("kind", "key")
    assert Store(store.root).remove("kind", "key")


def test_removed_means_gone_and_can_be_made_again(store: Store, soon: Deadline) -> None:
    """Removing one's own entry works, and leaves no trace that hinders the next fill."""
    store.obtain("kind", "key", fill_with("a"), deadline=soon)
    assert store.remove("kind", "key")
    assert store.entries("kind") == []
    path = store.obtain("kind", "key", fill_with("b"), deadline=soon)
    assert (path / "sub/file").read_text() == "b"


def test_entries_are_listed_by_last_use(store: Store, soon: Deadline) -> None:
    """What was used last comes first, with its size in bytes."""
    for key in ("one", "two", "three"):
        store.obtain("kind", key, fill_with("12345"), deadline=soon)
    for number, key in enumerate(("two", "three", "one")):
        os.utime(store.root / f"kind/{key}.used", (number, number))
    assert [entry.key for entry in store.entries("kind")] == ["one", "three", "two"]
    assert {entry.size_bytes for entry in store.entries("kind")} == {5 + len("sub/file")}


def test_files_of_another_entry_are_not_listed_twice(store: Store, soon: Deadline) -> None:
    """A hard link into another entry is that entry's: it counts and is verified there."""
    first = store.obtain("kind", "first", fill_with("12345"), deadline=soon)

    def link(folder: Path) -> None:
        (folder / "own").write_text("own")
        (folder / "shared").hardlink_to(first / "sub/file")

    store.obtain("kind", "second", link, deadline=soon)
    sizes = {entry.key: entry.size_bytes for entry in store.entries("kind")}
    assert sizes["second"] == 3


def test_a_full_disk_is_its_own_error(store: Store, soon: Deadline) -> None:
    """ENOSPC from anywhere in a fill becomes NoSpace, with what to do."""

    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(NoSpace, match="no space left") as caught:
        store.obtain("kind", "key", full, deadline=soon)
    assert caught.value.hint is not None
    assert "prune" in caught.value.hint


def test_a_cache_that_cannot_be_written_is_its_own_error(tmp_path: Path, soon: Deadline) -> None:
    """A file where the folder should be: a sentence, no traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="cannot be"):
        Store(tmp_path / "file").obtain("kind", "key", fill_with("a"), deadline=soon)


@pytest.mark.parametrize("key", ["", ".hidden", "a/b", "a b", "..", "a~b"])
def test_a_key_is_one_plain_name(store: Store, soon: Deadline, key: str) -> None:
    """A key cannot leave its folder or be taken for one of the store's own files."""
    with pytest.raises(ValueError, match="no name"):
        store.obtain("kind", key, fill_with("a"), deadline=soon)


def test_without_content_sizes_and_times_count(store: Store, soon: Deadline) -> None:
    """Sources are verified by size and time alone, and not read again after a boot."""
    path = store.obtain("kind", "key", fill_with("a"), deadline=soon, content=False)
    assert store.find("kind", "key") == path
    os.utime(path / "sub/file", ns=(0, 0))
    assert store.find("kind", "key") is None


def test_the_size_of_a_file_with_holes_is_what_it_takes(store: Store, soon: Deadline) -> None:
    """The image of a disk of some gigabytes, nearly empty, does not fill the cache."""

    def fill(folder: Path) -> None:
        with (folder / "image").open("wb") as image:
            image.truncate(1 << 30)
            image.write(b"content")

    store.obtain("kind", "key", fill, deadline=soon)
    (entry,) = store.entries("kind")
    assert entry.size_bytes is not None
    assert len(b"content") <= entry.size_bytes < 1 << 20
