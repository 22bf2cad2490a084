# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that load signed modules alone: what the harness builds is loaded, and nothing else is.

They need a kernel that has signatures, such as with --kernel-config distribution.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.patch import Livepatch
from harness.vm.kernel.signing import is_signed, without_signature

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine

PATCH = "klp_test_cmdline_a"


@pytest.mark.needs("CONFIG_MODULE_SIG")
@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(errno.EKEYREJECTED, marks=pytest.mark.kernel_args("module.sig_enforce=1")),
        pytest.param(errno.EPERM, marks=pytest.mark.kernel_args("lockdown=integrity")),
        pytest.param(errno.EPERM, marks=pytest.mark.kernel_args("lockdown=confidentiality")),
    ],
    ids=["sig_enforce", "lockdown-integrity", "lockdown-confidentiality"],
)
def test_signed_modules_alone(
    guest: Machine,
    livepatch: Livepatch,
    sample_modules: Mapping[str, Path],
    tmp_path: Path,
    refused: int,
) -> None:
    """A module without its signature is refused; the sample as it is built patches the kernel."""
    module = sample_modules[PATCH]
    assert is_signed(module)
    bare = tmp_path / f"{PATCH}.ko"
    bare.write_bytes(without_signature(module.read_bytes()))
    with pytest.raises(ModuleRefused) as caught:
        guest.insmod(guest.upload(bare))
    assert caught.value.errno == refused
    patch = livepatch.load(PATCH, wait=True)
    assert "live patched" in guest.read("/proc/cmdline")
    patch.disable()
    patch.unload()


@pytest.mark.needs("CONFIG_MODULE_SIG")
def test_a_signed_module_is_verified(livepatch: Livepatch) -> None:
    """The kernel knows the key: it neither taints nor says that verification failed."""
    livepatch.load(PATCH, wait=True)
    assert int(livepatch.guest.read("/proc/sys/kernel/tainted")) & (1 << 13) == 0
