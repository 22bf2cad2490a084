# SPDX-License-Identifier: GPL-2.0-only
"""Keys and initrds of one run, made by whichever of its processes needs them first."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING

from filelock import FileLock

from harness.deadline import Deadline
from harness.vm.guest import root_init
from harness.vm.guest.initramfs import BOOT_DIR, build_base, build_initrd, extend_initrd
from harness.vm.guest.keys import RunKeys, make_keys
from harness.vm.guest.run_folder import writing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.root_disk import RootDisk
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Bootable

_PREPARE_S = 300.0


class RunInitrd:
    """What lies in the folder of a run, for all of its processes."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        *,
        extra_files: Mapping[str, Path],
        base: Path | None,
        root: RootDisk | None,
    ) -> None:
        self._folder = folder
        self._store = store
        self._extra_files = extra_files
        self._base = base
        self._root = root
        self._prepared: tuple[RunKeys, Path] | None = None

    def prepare(self) -> tuple[RunKeys, Path]:
        """Make, or find, the keys and the initrd of this run."""
        if self._prepared is not None:
            return self._prepared
        deadline = Deadline.after(_PREPARE_S)
        initrd = self._folder / "initrd"
        note = self._folder / "keys.json"
        with writing(self._folder), FileLock(self._folder / "lock"):
            if note.exists():
                keys = RunKeys(folder=self._folder, **json.loads(note.read_text()))
            else:
                keys = make_keys(self._folder, deadline=deadline)
                base = self._base or build_base(self._store, deadline=deadline)
                files, texts = self._extra_files, MappingProxyType[str, str]({})
                if self._root is not None:
                    files = root_init.placed(files)
                    texts = MappingProxyType(root_init.initramfs_files(self._root))
                build_initrd(base, keys, initrd, extra_files=files, texts=texts, deadline=deadline)
                public = {"host_public": keys.host_public, "client_public": keys.client_public}
                note.write_text(json.dumps(public))
        self._prepared = keys, initrd
        return self._prepared

    def prepare_for(self, kernel: Bootable) -> tuple[RunKeys, Path]:
        """Make, or find, the keys and the initrd for guests with that kernel."""
        keys, initrd = self.prepare()
        drivers = list(kernel.boot_modules)
        if self._root is not None:
            loaded = {path.name for path in drivers}
            drivers += [path for path in kernel.root_modules if path.name not in loaded]
        if not drivers:
            return keys, initrd
        own = self._folder / f"initrd-{kernel.digest[:16]}"
        with writing(self._folder), FileLock(self._folder / "lock"):
            if not own.exists():
                files = {
                    f"{BOOT_DIR}/{number:02}-{path.name}": path
                    for number, path in enumerate(drivers)
                }
                extend_initrd(initrd, files, own, deadline=Deadline.after(_PREPARE_S))
        return keys, own
