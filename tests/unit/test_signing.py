# SPDX-License-Identifier: GPL-2.0-only
"""Modules are signed for kernels that want it, with the build's key or one that is given."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError, KernelUnfit, UsageError
from harness.vm.kernel import signing
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.kernel import SIGNED_WORD
from harness.vm.kernel.module import obtain_modules
from harness.vm.kernel.requirements import GUEST_NEEDS, require_for_guest
from harness.vm.kernel.signing import (
    ENFORCING,
    enforcing,
    find_signer,
    is_signed,
    without_signature,
)

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

MAGIC = "~Module signature appended~\n"
SIGNS = KernelConfig({"CONFIG_MODULE_SIG": "y", "CONFIG_MODULE_SIG_HASH": "sha512"})
# As the kernel's: algorithm, key, certificate, module; a key is here what says so.
TOOL = f"""#!/bin/sh
grep -q key "$2" && grep -q key "$3" || {{ echo "no key" >&2; exit 1; }}
printf '%s by %s\\n{MAGIC[:-1]}\\n' "$1" "$(cat "$2")" >> "$4"
"""


@pytest.fixture
def kernel(
    store: Store, fake_tree: Path, guest_fragment: Path, soon: Deadline, recorder: Progress
) -> Kernel:
    """The fake kernel, as if it signed: with a key, and the program that signs."""
    request = KernelRequest(spec=str(fake_tree), fragments=(str(guest_fragment),))
    made = obtain_kernel(request, store=store, deadline=soon, progress=recorder)
    tool = made.build_dir / "scripts/sign-file"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(TOOL)
    tool.chmod(0o755)
    (made.build_dir / "certs").mkdir()
    (made.build_dir / "certs/signing_key.pem").write_text("the build's key")
    return replace(made, config=SIGNS)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A module."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "Kbuild").write_text("obj-m += one.o\n")
    (folder / "one.c").write_text("one\n")
    return folder


def test_modules_are_signed_with_the_builds_key(
    kernel: Kernel, sources: Path, store: Store, soon: Deadline
) -> None:
    """By the hash that the kernel is configured with."""
    module = obtain_modules(kernel, sources, store=store, deadline=soon)["one"]
    assert module.read_text() == f"one\nsha512 by the build's key\n{MAGIC}"
    assert is_signed(module)


def test_another_key_is_another_module(
    kernel: Kernel,
    sources: Path,
    store: Store,
    soon: Deadline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A kernel that was built again has another key: no module of the old one is used."""
    obtain_modules(kernel, sources, store=store, deadline=soon)
    (kernel.build_dir / "certs/signing_key.pem").write_text("another key")
    module = obtain_modules(kernel, sources, store=store, deadline=soon)["one"]
    assert "by another key" in module.read_text()
    given = tmp_path / "given.pem"
    given.write_text("a given key")
    monkeypatch.setenv(signing.KEY_VARIABLE, str(given))
    module = obtain_modules(kernel, sources, store=store, deadline=soon)["one"]
    assert "by a given key" in module.read_text()


def test_a_kernel_that_does_not_ask_for_it(
    kernel: Kernel, sources: Path, store: Store, soon: Deadline
) -> None:
    """Without MODULE_SIG nothing is signed, and the guest hears nothing of it."""
    plain = replace(kernel, config=KernelConfig({}))
    module = obtain_modules(plain, sources, store=store, deadline=soon)["one"]
    assert module.read_text() == "one\n"
    assert SIGNED_WORD not in plain.boot_args
    assert SIGNED_WORD in kernel.boot_args


def test_a_finished_module_is_signed_in_a_copy(
    kernel: Kernel, tmp_path: Path, store: Store, soon: Deadline
) -> None:
    """A user's file stays as it is; one that is signed is used as it is."""
    module = tmp_path / "fix.ko"
    module.write_text("fix\n")
    signer = kernel.signer()
    assert signer is not None
    copy = signer.signed(module, store, soon)
    assert copy.name == "fix.ko"
    assert is_signed(copy)
    assert module.read_text() == "fix\n"
    assert signer.signed(copy, store, soon) == copy
    assert signer.signed(module, store, soon) == copy


def test_what_is_no_key(
    kernel: Kernel,
    tmp_path: Path,
    store: Store,
    soon: Deadline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that is not there, and one that signs nothing."""
    monkeypatch.setenv(signing.KEY_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="names no file"):
        kernel.signer()
    (tmp_path / "bad.pem").write_text("nothing")
    monkeypatch.setenv(signing.KEY_VARIABLE, str(tmp_path / "bad.pem"))
    module = tmp_path / "fix.ko"
    module.write_text("fix\n")
    signer = kernel.signer()
    assert signer is not None
    with pytest.raises(UsageError, match=r"fix\.ko cannot be signed with .*bad\.pem"):
        signer.signed(module, store, soon)


def test_a_signature_is_taken_off() -> None:
    """What is left is what was signed; other content is left as it is."""
    module = b"\x7fELF and more"
    structure = bytes([0, 0, 2, 3, 4, 0, 0, 0]) + (300).to_bytes(4, "big")
    signed = module + b"s" * 307 + structure + MAGIC.encode()
    assert without_signature(signed) == module
    assert without_signature(module) == module


def test_a_build_without_the_program(kernel: Kernel) -> None:
    """There is a key, and nothing to sign with."""
    (kernel.build_dir / "scripts/sign-file").unlink()
    with pytest.raises(HarnessError, match="no scripts/sign-file"):
        kernel.signer()


def test_a_key_beside_the_sources(tmp_path: Path) -> None:
    """MODULE_SIG_KEY is relative to the build, or to the sources around it."""
    (tmp_path / "O/scripts").mkdir(parents=True)
    (tmp_path / "O/scripts/sign-file").touch()
    (tmp_path / "my.pem").write_text("key")
    config = KernelConfig({"CONFIG_MODULE_SIG": "y", "CONFIG_MODULE_SIG_KEY": "my.pem"})
    signer = find_signer(config, tmp_path / "O")
    assert signer is not None
    assert signer.key.samefile(tmp_path / "my.pem")
    assert find_signer(SIGNS, tmp_path / "O") is None


@pytest.mark.parametrize("name", sorted(ENFORCING))
def test_signatures_that_are_enforced(name: str) -> None:
    """With a key such a kernel is tested; without one it is refused by the option's name."""
    config = KernelConfig({**{f"CONFIG_{n}": "y" for n in GUEST_NEEDS}, f"CONFIG_{name}": "y"})
    assert enforcing(config) == name
    require_for_guest(config, "x", signs=True)
    with pytest.raises(KernelUnfit, match=f"with CONFIG_{name}=y .*no key") as caught:
        require_for_guest(config, "x")
    assert signing.KEY_VARIABLE in str(caught.value.hint)
