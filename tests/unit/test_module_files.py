# SPDX-License-Identifier: GPL-2.0-only
"""A distribution's module files: each compression of the kernel's, damaged, and without end."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.vm.host.process import run
from harness.vm.kernel import module_files
from harness.vm.kernel.module_files import module_index, write_plain


def compressed(suffix: str, content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / f"virtio-net.ko{suffix}"
    if suffix == ".zst":
        plain = tmp_path / "plain"
        plain.write_bytes(content)
        run(["zstd", "-q", "-f", plain, "-o", path], deadline=Deadline.after(30))
    else:
        packed = {"": content, ".gz": gzip.compress(content), ".xz": lzma.compress(content)}
        path.write_bytes(packed[suffix])
    return path


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_compressed_modules(suffix: str, tmp_path: Path, soon: Deadline) -> None:
    """Whatever CONFIG_MODULE_COMPRESS_* the kernel has, the guest gets the plain file."""
    module = compressed(suffix, b"a module" * 1000, tmp_path)
    target = tmp_path / "out.ko"
    write_plain(module, target, soon)
    assert target.read_bytes() == b"a module" * 1000
    assert module_index(tmp_path)["virtio_net"] in (module, target)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "changed", "other", "empty"])
def test_a_compressed_module_that_is_damaged(
    suffix: str, damage: str, tmp_path: Path, soon: Deadline
) -> None:
    """A sentence names the file; nothing of it is loaded."""
    module = compressed(suffix, bytes(range(256)) * 100, tmp_path)
    content = module.read_bytes()
    middle = len(content) // 2
    module.write_bytes(
        {
            "cut": content[:middle],
            "changed": content[: middle - 2] + bytes(4) + content[middle + 2 :],
            "other": b"\x7fELF" + content[4:],
            "empty": b"",
        }[damage]
    )
    with pytest.raises(UsageError, match=r"virtio-net\.ko\..* damaged or cut off"):
        write_plain(module, tmp_path / "out.ko", soon)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_module_that_grows_without_end(
    suffix: str, tmp_path: Path, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes may unpack to the size of the disk."""
    monkeypatch.setattr(module_files, "_MOST_BYTES", 1 << 20)
    module = compressed(suffix, bytes(8 << 20), tmp_path)
    target = tmp_path / "out.ko"
    with pytest.raises(UsageError):
        write_plain(module, target, soon)
    assert target.stat().st_size <= 1 << 20
