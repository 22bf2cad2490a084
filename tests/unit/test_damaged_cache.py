# SPDX-License-Identifier: GPL-2.0-only
"""A cache in which a bit flipped, and a host whose clock jumped: mended, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from harness.errors import CacheCorrupt
from harness.vm.host import last_use
from harness.vm.host.files import boot_id
from harness.vm.host.last_use import Ages, LastUse
from harness.vm.host.manifest import MANIFEST, read_manifest
from harness.vm.kernel.inventory import list_kernels, prune_kernels
from harness.vm.kernel.kernel import read_metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store

DAY_S = 86400.0
KEY = "2b0e57ac"
DESCRIPTION = {
    "version": "6.1",
    "digest": KEY,
    "compiler": "gcc",
    "source": "s",
    "source_digest": "d",
    "objects": "9",
}


def fill(folder: Path) -> None:
    (folder / "kernel.json").write_text(json.dumps(DESCRIPTION))
    (folder / "bzImage").write_bytes(b"image")


def described(key: str) -> Callable[[Path], None]:
    """Return what makes an entry with the description of a kernel alone."""

    def make(folder: Path) -> None:
        (folder / "kernel.json").write_text(json.dumps({**DESCRIPTION, "digest": key}))

    return make


def obtain(store: Store, soon: Deadline, key: str = KEY) -> Path:
    path = store.obtain("kernel", key, fill, deadline=soon)
    store.release("kernel", key)
    return path


def used(store: Store, days_ago: float, *, in_this_boot: bool, key: str = KEY) -> None:
    """Note that an entry was used so long ago by the wall clock."""
    file = store.root / "kernel" / f"{key}.used"
    if not in_this_boot:
        file.write_text("another-boot 12")
    os.utime(file, (time.time() - days_ago * DAY_S,) * 2)


@pytest.mark.parametrize("name", [MANIFEST, "kernel.json", "bzImage", ".checked", "../KEY.used"])
def test_no_flipped_bit_breaks_the_cache(
    store: Store, soon: Deadline, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever bit flips: list and prune work, and what is obtained is as it was made.

    One bit of each byte; KLP_ALL_FLIPS=1 takes all of them.
    """
    monkeypatch.setattr(os, "fsync", lambda _: None)  # most of the time, and of no concern here
    entry = obtain(store, soon)
    file = entry / name.replace("KEY", KEY)
    whole = file.read_bytes()
    status = file.stat()
    for bit in range(len(whole) * 8):
        if bit % 8 != bit // 8 % 8 and not os.environ.get("KLP_ALL_FLIPS"):
            continue
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        list_kernels(store)
        if bit % 3 == 0:
            prune_kernels(store, unused_for_s=3600)
        obtain(store, soon)
        if name in (MANIFEST, "kernel.json"):
            assert read_metadata(entry).model_dump(exclude_defaults=True) == DESCRIPTION, bit
            assert (entry / "bzImage").read_bytes() == b"image", bit
        assert len(list_kernels(store)) == 1
        file.parent.mkdir(exist_ok=True)
        if file.exists() and file.read_bytes() != whole:
            shutil.rmtree(entry)
            obtain(store, soon)
        whole, status = file.read_bytes(), file.stat()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "[" * 100_000,
        '{"format": 1}',
        '{"format": 1, "files": []}',
        '{"format": 1, "files": {"a": null}}',
        '{"format": 1, "files": {"a": [1, 2]}}',
        '{"format": 1, "files": {"a": ["1", 2, ""]}}',
        '{"format": 1, "files": {"a": [-1, 2, ""]}}',
        b"\xff\xfe\x00",
    ],
)
def test_a_manifest_of_another_form_is_no_manifest(tmp_path: Path, content: str | bytes) -> None:
    """What is no manifest is told from one before anything in it is used."""
    path = tmp_path / MANIFEST
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_manifest(path) is None


@pytest.mark.parametrize("name", ["a\\u0000b", "\\ud800", "x" * 5000, "../../../etc/passwd"])
def test_a_manifest_that_names_what_cannot_be(store: Store, soon: Deadline, name: str) -> None:
    """The entry is made again when its manifest names a file that cannot exist."""
    entry = obtain(store, soon)
    record = f'{{"format": 1, "files": {{"{name}": [5, 6, "7"]}}}}'
    (entry / MANIFEST).write_text(record)
    assert (obtain(store, soon) / "bzImage").read_bytes() == b"image"
    assert (entry / MANIFEST).read_text() != record


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"version": 1}', json.dumps({**DESCRIPTION, "digest": "other"})]
)
def test_a_description_that_is_none(store: Store, soon: Deadline, text: str) -> None:
    """One bad kernel is left out of the list with a warning, and removed by prune."""
    entry = obtain(store, soon)
    sound = store.obtain("kernel", "sound", described("sound"), deadline=soon)
    (entry / "kernel.json").write_text(text)
    with pytest.raises(CacheCorrupt, match=KEY):
        read_metadata(entry)
    assert [kernel.digest for kernel in list_kernels(store)] == ["sound"]
    assert prune_kernels(store, unused_for_s=3600).removed == (f"kernel {KEY}, which is damaged",)
    assert sound.is_dir()
    assert not entry.exists()


def test_prune_removes_what_has_no_readable_manifest(store: Store, soon: Deadline) -> None:
    """An entry that counts for nothing would stay for ever, with its gigabytes."""
    entry = obtain(store, soon)
    (entry / MANIFEST).write_text("{")
    assert list_kernels(store) == ()
    assert prune_kernels(store, unused_for_s=3600).removed == (f"kernel {KEY}, which is damaged",)
    assert not entry.exists()


def test_what_was_used_in_this_boot_stays_whatever_the_clock_says(
    store: Store, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps ten years: the kernel was used a moment ago, and prune takes nothing."""
    obtain(store, soon)
    later_s = time.time() + 3650 * DAY_S
    monkeypatch.setattr(time, "time", lambda: later_s)
    assert prune_kernels(store, unused_for_s=30 * DAY_S).removed == ()
    assert len(list_kernels(store)) == 1


def test_a_jump_in_this_boot_is_taken_off_older_ages(
    store: Store, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel of an earlier boot is as old as by the clock before it jumped."""
    obtain(store, soon)
    for key, days_ago in (("week", 7.0), ("year", 365.0)):
        store.obtain("kernel", key, described(key), deadline=soon)
        store.release("kernel", key)
        used(store, days_ago, in_this_boot=False, key=key)
    later_s = time.time() + 3650 * DAY_S
    monkeypatch.setattr(time, "time", lambda: later_s)
    assert prune_kernels(store, unused_for_s=30 * DAY_S).removed == ("kernel 6.1 (year)",)


def test_without_a_use_in_this_boot_the_clock_alone_takes_not_everything(
    store: Store, soon: Deadline
) -> None:
    """A clock that is wrong since the host started would take all: nothing, with the reason."""
    obtain(store, soon)
    used(store, 400, in_this_boot=False)
    pruned = prune_kernels(store, unused_for_s=30 * DAY_S)
    assert pruned.removed == ()
    assert pruned.doubt is not None
    assert "the clock may be wrong" in pruned.doubt
    assert prune_kernels(store).removed == (f"kernel 6.1 ({KEY})",)


def test_ages_with_a_clock_that_stands_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a jump the wall clock counts; a jump back makes what was used look younger."""
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    monkeypatch.setattr(last_use, "_since_boot_s", lambda: 5000.0)
    here = LastUse(at_s=999_000.0, since_boot_s=4000.0)
    before = LastUse(at_s=900_000.0, since_boot_s=None)
    ages = Ages([here, before])
    assert (ages.is_sure, ages.age_s(here), ages.age_s(before)) == (True, 1000.0, 100_000.0)
    assert not Ages([before]).is_sure
    assert Ages([]).age_s(LastUse(at_s=1_000_100.0, since_boot_s=None)) == 0.0


@pytest.mark.parametrize("content", ["", "x", f"{boot_id()} x", f"{boot_id()} -5", "\udcff 1"])
def test_a_stamp_of_another_form_is_of_another_boot(tmp_path: Path, content: str) -> None:
    """What is in the file of an older version, or damaged, leaves the wall clock's time alone."""
    file = tmp_path / "a.used"
    file.write_bytes(os.fsencode(content))
    assert last_use.read_use(file).since_boot_s is None
