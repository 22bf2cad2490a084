# SPDX-License-Identifier: GPL-2.0-only
"""Signatures of modules, for kernels that want them (Documentation/admin-guide/module-signing.rst).

A kernel that is built here, or of which the build is here, has a key of its own in its build
folder. For others a key can be given that they trust. The kernel's own sign-file signs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError
from harness.inputs import Kind, kind_of, shown, user_path
from harness.vm.host.process import run

if TYPE_CHECKING:
    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.config import KernelConfig

KEY_VARIABLE = "KLP_HARNESS_MODULE_KEY"
KIND = "signed"
_WHAT = f"the key of {KEY_VARIABLE}"
_OWN_KEY = "certs/signing_key.pem"
_TOOL = "scripts/sign-file"
_MAGIC = b"~Module signature appended~\n"
_STRUCTURE = struct.Struct(">3xBB3xI")
# Options with which the kernel loads no module that is not signed.
ENFORCING = {
    "MODULE_SIG_FORCE": "it loads no module that is not signed",
    "LOCK_DOWN_KERNEL_FORCE_INTEGRITY": "lockdown refuses modules that are not signed",
    "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY": "lockdown refuses modules that are not signed",
}


@dataclass(frozen=True, kw_only=True)
class Signer:
    """What signs modules for a kernel. ``key`` has the private key and the certificate, as PEM."""

    tool: Path
    algorithm: str
    key: Path

    @property
    def identity(self) -> str:
        """What decides a signature. Raises UsageError."""
        try:
            content = self.key.read_bytes()
        except OSError as error:
            raise UsageError(
                f"the key {self.key} cannot be read: {error.strerror}",
                hint="modules of this kernel have to be signed",
            ) from error
        return f"{self.algorithm} {hashlib.sha256(content).hexdigest()}"

    def sign(self, module: Path, deadline: Deadline) -> None:
        """Sign a module in its place. Raises UsageError when the key is none."""
        run(
            [self.tool, self.algorithm, self.key, self.key, module],
            deadline=deadline,
            explain=lambda error: UsageError(
                f"{module.name} cannot be signed with {self.key}",
                hint="the file has to have a private key without a password, and its "
                "certificate, both as PEM",
                details=error.details[-3:],
            ),
        )

    def signed(self, module: Path, store: Store, deadline: Deadline) -> Path:
        """Return a signed copy of a module, in the cache; a module that is signed as it is."""
        if is_signed(module):
            return module
        content = hashlib.sha256(module.read_bytes()).hexdigest()
        key = hashlib.sha256(f"{content}\0{self.identity}".encode()).hexdigest()[:32]

        def fill(folder: Path) -> None:
            copy = folder / module.name
            shutil.copyfile(module, copy)
            self.sign(copy, deadline)

        return store.obtain(KIND, key, fill, deadline=deadline) / module.name


def find_signer(config: KernelConfig, build_dir: Path) -> Signer | None:
    """Return what signs modules for a kernel; None when it takes none, or its key is not here.

    Raises UsageError when a key is given that is no file, HarnessError when the build lacks the
    program that signs.
    """
    if config.get("MODULE_SIG") != "y":
        return None
    key = _given_key() or _key_of_build(config, build_dir)
    if key is None:
        return None
    tool = build_dir / _TOOL
    if not tool.is_file():
        raise HarnessError(f"the build in {build_dir} has no {_TOOL}, which signs modules")
    return Signer(tool=tool, algorithm=config.get("MODULE_SIG_HASH") or "sha256", key=key)


def enforcing(config: KernelConfig) -> str | None:
    """Return the option with which a kernel loads signed modules alone, if it has one."""
    return next((name for name in ENFORCING if config.get(name) == "y"), None)


def is_signed(module: Path) -> bool:
    """Return whether a signature is appended to a module; by which key is not looked at."""
    with module.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(-min(len(_MAGIC), file.tell()), os.SEEK_END)
        return file.read() == _MAGIC


def without_signature(module: bytes) -> bytes:
    """Return a module's content without the signature that is appended to it, if there is one.

    struct module_signature of include/linux/module_signature.h: the signature, this structure with
    the lengths, and a word that says so.
    """
    if not module.endswith(_MAGIC):
        return module
    structure = module[: -len(_MAGIC)][-_STRUCTURE.size :]
    signer, key_id, signature = _STRUCTURE.unpack(structure)
    return module[: -(len(_MAGIC) + _STRUCTURE.size + signer + key_id + signature)]


def _given_key() -> Path | None:
    named = os.environ.get(KEY_VARIABLE)
    if not named:
        return None
    path = user_path(named, _WHAT)
    if kind_of(path, _WHAT) is not Kind.FILE:
        raise UsageError(f"{KEY_VARIABLE} names no file: {shown(named)}")
    return path.absolute()


def _key_of_build(config: KernelConfig, build_dir: Path) -> Path | None:
    named = Path(config.get("MODULE_SIG_KEY") or _OWN_KEY)
    # Relative to the O= folder, or to the sources that it lies in.
    places = [build_dir / named, build_dir.parent / named]
    return next((path for path in places if path.is_file()), None)
