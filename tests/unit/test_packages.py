# SPDX-License-Identifier: GPL-2.0-only
"""A distribution's kernel: which packages it takes, and what is made of them; nothing installed."""

from __future__ import annotations

import hashlib
import lzma
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import DownloadFailed, KernelUnfit, UsageError
from harness.log import LOGGER
from harness.vm.host.process import run
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.packages import kernel_packages, parse_packages
from tests.unit.finished_kernels import CONFIG, debian_root, write_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

SHOWN = """\
Package: linux-image-cloud-amd64
Source: linux-signed-amd64 (6.1.5+1)
Version: 6.1.5-1
Depends: linux-image-6.1.0-9-cloud-amd64 (= 6.1.5-1)
Size: 1500
SHA256: aa

Package: linux-image-6.1.0-9-cloud-amd64
Version: 6.1.5-1
Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120) | linux-initramfs-tool
Size: 100
SHA256: bb

Package: linux-image-6.1.0-9-cloud-amd64
Version: 6.1.4-1
Size: 99
SHA256: b0

Package: linux-headers-6.1.0-9-cloud-amd64
Version: 6.1.5-1
Depends: linux-headers-6.1.0-9-common (= 6.1.5-1), linux-kbuild-6.1 (>= 6.1.5-1), gcc-12
Size: 10
SHA256: cc

Package: linux-headers-6.1.0-9-common
Version: 6.1.5-1
Size: 10
SHA256: dd

Package: linux-kbuild-6.1
Version: 6.1.5-1
Depends: libc6 (>= 2.34)
Size: 10
SHA256: ee
"""
APT_GET = """\
#!/bin/sh
here=$(dirname "$0"); shift 2
case "$1" in
indextargets) cat "$here/targets" 2>/dev/null; exit ;;
esac
words=; for word; do case "$word" in -o=*) ;; *) words="$words $word" ;; esac; done
set -- $words
echo "$*" >> "$here/calls"
case "$1" in
update) test ! -f "$here/offline" || { echo "E: no network" >&2; exit 100; } ;;
download) cp "$here"/*.deb . ;;
esac
"""
APT_CACHE = """\
#!/bin/sh
test ! -f "$(dirname "$0")/offline" || exit 100
cat "$(dirname "$0")/shown"
"""
VERSION = "6.1.0-9-cloud-amd64"


def test_a_metapackage_leads_to_image_and_headers() -> None:
    """What a guest and a module build take, and none of what an installation would."""
    offered = {package.name: package for package in parse_packages(SHOWN)}
    image, parts = kernel_packages("linux-image-cloud-amd64", offered.get)
    assert image.name == f"linux-image-{VERSION}"
    assert image.sha256 == "bb"
    assert {part.name for part in parts} == {
        f"linux-headers-{VERSION}",
        "linux-headers-6.1.0-9-common",
        f"linux-image-{VERSION}",
        "linux-kbuild-6.1",
    }


@pytest.mark.parametrize(
    "named",
    ["linux-image-6.1.0-9-amd64-unsigned", "linux-image-unsigned-6.1.0-9-amd64"],
)
def test_what_is_not_signed_has_the_headers_of_what_is(named: str) -> None:
    """Debian's name ends so, Ubuntu's begins so."""
    text = (
        f"Package: {named}\nVersion: 1\nSize: 1\nSHA256: a\n\n"
        "Package: linux-headers-6.1.0-9-amd64\nVersion: 1\nSize: 1\nSHA256: b\n"
    )
    offered = {package.name: package for package in parse_packages(text)}
    assert {p.name for p in kernel_packages(named, offered.get)[1]} == set(offered)


def test_an_image_that_is_split() -> None:
    """Debian's unstable has image, modules and configuration in packages of their own."""
    depends = {
        "linux-image-amd64": "linux-base-amd64, linux-image-7.2+deb14-amd64",
        "linux-image-7.2+deb14-amd64": "linux-binary-7.2+deb14-amd64 (= 7.2-1), "
        "linux-modules-7.2+deb14-amd64 (= 7.2-1), linux-base (>= 4), dracut | initramfs-tools",
        "linux-binary-7.2+deb14-amd64": "linux-base-7.2+deb14-amd64 (= 7.2-1)",
        "linux-base-7.2+deb14-amd64": "",
        "linux-modules-7.2+deb14-amd64": "linux-base-7.2+deb14-amd64",
        "linux-headers-7.2+deb14-amd64": "gcc-16-for-host, linux-kbuild-7.2+deb14",
        "linux-kbuild-7.2+deb14": "libc6 (>= 2.38)",
    }
    text = "\n\n".join(
        f"Package: {name}\nVersion: 7.2-1\nDepends: {others}\nSize: 1\nSHA256: a"
        for name, others in depends.items()
    )
    offered = {package.name: package for package in parse_packages(text)}
    image, parts = kernel_packages("linux-image-amd64", offered.get)
    assert image.name == "linux-image-7.2+deb14-amd64"
    assert {part.name for part in parts} == set(depends) - {"linux-image-amd64"}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("bash", "no package of a kernel"),
        ("", "no package of a kernel"),
        ("linux-image-none", "knows no package linux-image-none"),
    ],
)
def test_what_is_no_kernel(named: str, said: str) -> None:
    """A sentence, and what to do."""
    offered = {package.name: package for package in parse_packages(SHOWN)}
    with pytest.raises(UsageError, match=said) as caught:
        kernel_packages(named, offered.get)
    assert caught.value.hint


def test_a_kernel_without_headers() -> None:
    """No module could be built for it."""
    offered = {p.name: p for p in parse_packages(SHOWN) if not p.name.startswith("linux-headers")}
    with pytest.raises(UsageError, match=f"no package linux-headers-{VERSION}"):
        kernel_packages("linux-image-cloud-amd64", offered.get)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put apt's programs first in PATH; they offer one package with image, config and headers."""

    def offer(config: str = CONFIG) -> Path:
        root = debian_root(tmp_path / "content", VERSION, config=config)
        write_files(
            root,
            {
                f"lib/modules/{VERSION}/kernel/a.ko.xz": lzma.compress(b"a module"),
                "DEBIAN/control": "Package: x\nVersion: 1\nArchitecture: all\n"
                "Maintainer: x <x@example.org>\nDescription: x\n",
            },
        )
        folder = tmp_path / "apt"
        folder.mkdir(exist_ok=True)
        for name, text in (("apt-get", APT_GET), ("apt-cache", APT_CACHE)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        deb = folder / "kernel.deb"
        run(["dpkg-deb", "--build", root, deb], deadline=Deadline.after(30))
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        shown = SHOWN
        for short in ("aa", "bb", "cc", "dd", "ee"):
            shown = shown.replace(f"SHA256: {short}\n", f"SHA256: {digest}\n")
        (folder / "shown").write_text(shown)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return folder

    return offer


@pytest.fixture
def obtain(store: Store, soon: Deadline, recorder: Progress) -> Callable[[], Kernel]:
    """Obtain the packaged kernel."""

    def call() -> Kernel:
        request = KernelRequest(spec="deb:linux-image-cloud-amd64")
        return obtain_kernel(request, store=store, deadline=soon, progress=recorder)

    return call


def test_it_is_unpacked_and_not_installed(
    archive: Callable[..., Path], obtain: Callable[[], Kernel]
) -> None:
    """Image, configuration, modules, and headers that build where they lie."""
    archive()
    kernel = obtain()
    assert kernel.version == VERSION
    assert kernel.vmlinux is None
    assert kernel.config.get("LIVEPATCH") == "y"
    assert kernel.boot_modules == ()
    root = kernel.image.parents[1]
    assert (root / f"lib/modules/{VERSION}/kernel/a.ko.xz").is_file()
    said = run(["make", "-C", kernel.build_dir], deadline=Deadline.after(30)).stdout
    assert f"it is {root}/usr/src/linux-headers-common/Makefile" in said


def test_it_is_asked_for_once(archive: Callable[..., Path], obtain: Callable[[], Kernel]) -> None:
    """A second run needs no network."""
    apt = archive()
    first = obtain()
    before = (apt / "calls").read_text()
    assert obtain().digest == first.digest
    assert (apt / "calls").read_text() == before


def test_without_a_network(archive: Callable[..., Path], obtain: Callable[[], Kernel]) -> None:
    """Nobody answers: the host's failure, not a missing package."""
    apt = archive()
    (apt / "offline").touch()
    with pytest.raises(DownloadFailed, match="linux-image-cloud-amd64 could not be found"):
        obtain()


def test_another_content_than_promised(
    archive: Callable[..., Path], obtain: Callable[[], Kernel]
) -> None:
    """What comes is compared with what the archive's index says."""
    apt = archive()
    with (apt / "kernel.deb").open("ab") as deb:
        deb.write(b"\n")
    with pytest.raises(DownloadFailed, match="does not have the checksum"):
        obtain()


def test_a_packaged_kernel_that_cannot_be_tested(
    archive: Callable[..., Path], obtain: Callable[[], Kernel]
) -> None:
    """It is judged as any build is."""
    archive(CONFIG.replace("CONFIG_LIVEPATCH=y\n", ""))
    with pytest.raises(KernelUnfit, match=f"linux-image-{VERSION} .*without CONFIG_LIVEPATCH"):
        obtain()


def test_an_archive_that_is_trusted_without_a_signature_is_named(
    archive: Callable[..., Path],
    obtain: Callable[[], Kernel],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """[trusted=yes] of a sources list overrides all settings, so it is said."""
    apt = archive()
    (apt / "targets").write_text("yes http://here.example/debian\n$(TRUSTED) http://b.example\n")
    monkeypatch.setattr(LOGGER, "propagate", True)
    obtain()
    assert "http://here.example/debian without a signature" in caplog.text
    assert "b.example" not in caplog.text
