# SPDX-License-Identifier: GPL-2.0-only
"""--config FILE: a whole .config goes into a build, and what is otherwise there is said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.errors import KernelUnfit, UsageError
from harness.vm.kernel import build
from harness.vm.kernel.build import KernelRequest, check_request, obtain_kernel
from harness.vm.kernel.config import load_fragments, merge
from harness.vm.kernel.requirements import BOOT_MODULES, GUEST_NEEDS, RELIABLE_STACK
from harness.vm.kernel.whole_config import FRAGMENT, Change, read_changes, read_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

FILLER = "".join(f"CONFIG_OF_ANOTHER_SERIES_{number}=m\n" for number in range(100))


@pytest.fixture
def whole(tmp_path: Path) -> Callable[[str], Path]:
    """Write a configuration with these lines, and a hundred that no kernel knows."""

    def write(text: str) -> Path:
        path = tmp_path / "config-6.1.0-1-amd64"
        path.write_text(FILLER + text)
        return path

    return write


@pytest.fixture
def obtain(
    store: Store,
    fake_tree: Path,
    guest_fragment: Path,
    soon: Deadline,
    recorder: Progress,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Kernel]:
    """Obtain the fake kernel with a whole configuration."""
    monkeypatch.setattr(build, "FOR_WHOLE", str(guest_fragment))

    def call(config: Path, *fragments: Path) -> Kernel:
        request = KernelRequest(
            spec=str(fake_tree),
            config=config,
            fragments=("base", "livepatch", *map(str, fragments)),
        )
        check_request(request)
        return obtain_kernel(request, store=store, deadline=soon, progress=recorder)

    return call


def changes_of(kernel: Kernel) -> dict[str, Change]:
    found = read_changes(kernel.build_dir.parent.parent)
    return {change.symbol.removeprefix("CONFIG_"): change for change in found}


def test_the_fragment_has_what_guests_need() -> None:
    """Everything whose absence is refused is asked for, and nothing is turned off."""
    requests = merge(load_fragments([FRAGMENT]))
    asked = {each.symbol.removeprefix("CONFIG_"): each for each in requests}
    selected = {"HAVE_RELIABLE_STACKTRACE"}  # the unwinder of the file has to bring it
    assert {*GUEST_NEEDS, *BOOT_MODULES, *RELIABLE_STACK} - selected <= asked.keys()
    assert {each.value for each in asked.values()} == {"y"}


def test_what_is_changed_is_said(
    obtain: Callable[..., Kernel], whole: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Each option with another value, and the reason; what is kept is not listed."""
    kernel = obtain(
        whole("CONFIG_FAKE_FEATURE=y\nCONFIG_VIRTIO_NET=m\n# CONFIG_LIVEPATCH is not set\n")
    )
    assert kernel.config.get("FAKE_FEATURE") == "y"
    assert kernel.config.get("VIRTIO_NET") == "y"
    assert "config-6.1.0-1-amd64" in kernel.source
    found = changes_of(kernel)
    assert "FAKE_FEATURE" not in found
    assert (found["VIRTIO_NET"].wanted, found["VIRTIO_NET"].got) == ("m", "y")
    assert found["LIVEPATCH"].reason.startswith("asked for by ")
    assert found["INET"].wanted == "n"
    assert found["OF_ANOTHER_SERIES_7"].reason == "the sources have no such option"
    assert "options of config-6.1.0-1-amd64 have another value" in caplog.text


def test_files_of_another_machine_are_left_out(
    obtain: Callable[..., Kernel], whole: Callable[[str], Path], fake_tree: Path
) -> None:
    """A list of trusted keys that is not in the sources would stop the build."""
    with (fake_tree / "Kconfig").open("a") as kconfig:
        kconfig.write('\nconfig SYSTEM_TRUSTED_KEYS\n\tstring "keys"\n')
        kconfig.write('\nconfig EXTRA_FIRMWARE\n\tstring "in the sources"\n')
    kernel = obtain(
        whole('CONFIG_SYSTEM_TRUSTED_KEYS="debian/certs/x.pem"\nCONFIG_EXTRA_FIRMWARE="Kbuild"\n')
    )
    assert kernel.config.get("SYSTEM_TRUSTED_KEYS") == ""
    assert kernel.config.get("EXTRA_FIRMWARE") == "Kbuild"
    assert changes_of(kernel)["SYSTEM_TRUSTED_KEYS"].reason == "it names a file that is not here"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "CONFIG_FAKE_UNMET=y\n",
            "has CONFIG_FAKE_UNMET=y, and the sources turn it off .it depends on NEVER",
        ),
        ("CONFIG_JUMP_LABEL=y\n", "has CONFIG_JUMP_LABEL=y, and the sources do not know it"),
    ],
)
def test_what_must_not_be_lost(
    obtain: Callable[..., Kernel],
    whole: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    store: Store,
    lines: str,
    said: str,
) -> None:
    """An option that decides what code is made is not dropped without a word."""
    monkeypatch.setattr(
        "harness.vm.kernel.whole_config.NOT_TO_BE_LOST", ("FAKE_UNMET", "JUMP_LABEL")
    )
    with pytest.raises(KernelUnfit, match=said):
        obtain(whole(lines))
    assert store.entries("kernel") == []


def test_a_fragment_may_give_it_up(
    obtain: Callable[..., Kernel], whole: Callable[[str], Path], tmp_path: Path
) -> None:
    """As the hint says: turned off on purpose, it is no loss."""
    extra = tmp_path / "without.config"
    extra.write_text("# CONFIG_JUMP_LABEL is not set\n")
    kernel = obtain(whole("CONFIG_JUMP_LABEL=y\n"), extra)
    assert changes_of(kernel)["JUMP_LABEL"].reason.startswith("asked for by ")


def test_another_file_is_another_kernel(
    obtain: Callable[..., Kernel], whole: Callable[[str], Path]
) -> None:
    """What the file sets is a part of the key; comments and order are not."""
    first = obtain(whole("CONFIG_FAKE_NUMBER=1\nCONFIG_FAKE_FEATURE=y\n")).digest
    assert obtain(whole("# again\nCONFIG_FAKE_FEATURE=y\nCONFIG_FAKE_NUMBER=1\n")).digest == first
    assert obtain(whole("CONFIG_FAKE_NUMBER=2\nCONFIG_FAKE_FEATURE=y\n")).digest != first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CONFIG_64BIT=y\n", "has 1 options, and is no whole configuration"),
        (FILLER + "CONFIG_ARM64=y\n", "is for arm64"),
        (FILLER + "something else\n", "line 101: 'something else' is no kernel option"),
        ("", "has 0 options"),
    ],
)
def test_what_is_no_configuration(tmp_path: Path, text: str, said: str) -> None:
    """A fragment, another machine's file, no configuration at all: before anything is built."""
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        check_request(KernelRequest(config=path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named; a folder is none."""
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UsageError, match="there is no file"):
            read_whole(path)


@pytest.mark.parametrize("said", ["built with clang", "configured by"])
def test_a_finished_build_is_finished(
    tmp_path: Path,
    store: Store,
    soon: Deadline,
    recorder: Progress,
    whole: Callable[[str], Path],
    said: str,
) -> None:
    """It can be neither configured nor compiled again."""
    request = KernelRequest(spec=f"build:{tmp_path}")
    if said == "configured by":
        request = replace(request, config=whole(""))
    else:
        request = replace(request, llvm=True)
    with pytest.raises(UsageError, match=f"cannot be {said}"):
        obtain_kernel(request, store=store, deadline=soon, progress=recorder)
