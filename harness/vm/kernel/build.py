# SPDX-License-Identifier: GPL-2.0-only
"""From a request to a kernel: sources, configuration, build, cache entry."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import NoSpace, UsageError
from harness.log import LOGGER
from harness.vm.kernel.build_needs import require_compiler, require_host
from harness.vm.kernel.config import (
    KernelConfig,
    allconfig_text,
    load_fragments,
    merge,
    verify,
)
from harness.vm.kernel.finished import finished_kernel_of
from harness.vm.kernel.finished_spec import FinishedSpec
from harness.vm.kernel.inventory import known_objects
from harness.vm.kernel.kbuild import ObjectCounter, build_log, make, make_relocatable
from harness.vm.kernel.kernel import BUILD, KIND, METADATA, Kernel, image_target, kernel_in
from harness.vm.kernel.patch_file import read_patch
from harness.vm.kernel.patched import obtain_patched
from harness.vm.kernel.prebuilt import kernel_from_build
from harness.vm.kernel.requirements import require_for_guest
from harness.vm.kernel.source import TREE, Source, located, obtain_source
from harness.vm.kernel.spec import BuildSpec, parse_spec
from harness.vm.kernel.toolchain import Toolchain, find_toolchain, jobs
from harness.vm.kernel.whole_config import FRAGMENT as FOR_WHOLE
from harness.vm.kernel.whole_config import read_whole, write_changes
from harness.vm.kernel.workspace import link_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.config import Request
    from harness.vm.kernel.progress import Progress
    from harness.vm.kernel.whole_config import WholeConfig

DEFAULT_SPEC = "6.1"
_FORMAT = 1
_ROOM_BYTES = 3 << 30


@dataclass(frozen=True, kw_only=True)
class KernelRequest:
    """What to build. ``fragments`` are names from kernel-configs/ or paths; later ones win.

    ``patches`` are applied to the sources in their order (see `harness.vm.kernel.patched`).
    ``config`` is a whole .config, which takes the place of the fragments base and livepatch.
    ``llvm``: clang compiles it.
    """

    spec: str = DEFAULT_SPEC
    sha256: str | None = None
    fragments: tuple[str, ...] = ("base", "livepatch")
    patches: tuple[Path, ...] = ()
    config: Path | None = None
    llvm: bool = False

    @property
    def configured_by(self) -> tuple[str, ...]:
        """The fragments that it is built with; with a ``config`` other ones than without."""
        return (FOR_WHOLE, *self.more) if self.config is not None else self.fragments

    @property
    def more(self) -> tuple[str, ...]:
        """The fragments beyond those that every kernel is built with."""
        return tuple(name for name in self.fragments if name not in ("base", "livepatch"))


def check_request(request: KernelRequest) -> None:
    """Raise UsageError for what of a request can be seen to be wrong before anything is built.

    That is a spec of no form, a file that cannot be read, a patch or fragment that is none.
    """
    parse_spec(request.spec, sha256=request.sha256)
    load_fragments(request.configured_by)
    if request.config is not None:
        read_whole(request.config)
    for path in request.patches:
        read_patch(path)


def obtain_kernel(
    request: KernelRequest, *, store: Store, deadline: Deadline, progress: Progress
) -> Kernel:
    """Return the kernel, built now or taken from the cache.

    Raises UsageError (spec, fragment, an option that the kernel lacks), PatchDoesNotApply,
    DownloadFailed, KernelBuildFailed with the first errors and the path of the log, MissingTool,
    NoSpace, and HarnessError when the deadline came first.
    """
    spec = parse_spec(request.spec, sha256=request.sha256)
    if isinstance(spec, BuildSpec | FinishedSpec):
        _refuse_building(request)
        if isinstance(spec, BuildSpec):
            return kernel_from_build(spec.path, request.spec)
        return finished_kernel_of(
            spec, request.spec, store=store, deadline=deadline, progress=progress
        )
    patches = tuple(read_patch(path) for path in request.patches)
    whole = None if request.config is None else read_whole(request.config)
    requests = merge(load_fragments(request.configured_by))
    toolchain = find_toolchain(llvm=request.llvm)
    asked = {each.symbol: each.value for each in requests}
    require_host(asked if whole is None else {**whole.values, **asked}, toolchain, deadline)
    with located(spec, store=store, deadline=deadline, progress=progress) as source:
        key = kernel_key(source.digest, requests, toolchain, whole)
        job = _Build(
            name=request.spec,
            key=key,
            source=source,
            flavour=(
                *([whole.name] if whole is not None else []),
                *(Path(name).stem for name in request.more),
                *(["clang"] if toolchain.llvm else []),
            ),
            whole=whole,
            requests=requests,
            toolchain=toolchain,
            store=store,
            deadline=deadline,
            progress=progress,
        )
        entry = store.obtain(
            KIND,
            key,
            job.fill,
            deadline=deadline,
            on_wait=lambda: progress.stage(f"waiting for another build of {job.description}"),
        )
    kernel = kernel_in(entry, request.spec)
    if not patches:
        return kernel
    return obtain_patched(kernel, patches, store=store, deadline=deadline, progress=progress)


def _refuse_building(request: KernelRequest) -> None:
    asked = (
        "patched"
        if request.patches
        else f"configured with {request.more[0]}"
        if request.more
        else f"configured by {request.config}"
        if request.config is not None
        else "built with clang"
        if request.llvm
        else None
    )
    if asked is not None:
        raise UsageError(
            f"{request.spec} is a finished build: it cannot be {asked}",
            hint="name the sources that it was built from",
        )


def kernel_key(
    source_digest: str,
    requests: tuple[Request, ...],
    toolchain: Toolchain,
    whole: WholeConfig | None = None,
) -> str:
    """Return the name of a build: a digest of everything that its result depends on."""
    parts = {
        "format": _FORMAT,
        "source": source_digest,
        "config": allconfig_text(requests),
        "toolchain": toolchain.identity,
    }
    if whole is not None:
        parts["whole"] = whole.digest
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class _Build:
    name: str
    key: str
    source: Source
    flavour: tuple[str, ...]
    whole: WholeConfig | None
    requests: tuple[Request, ...]
    toolchain: Toolchain
    store: Store
    deadline: Deadline
    progress: Progress

    @property
    def description(self) -> str:
        """Sources and flavour in words, for example ``linux-source-6.1 6.1.192-2, with debug``."""
        flavour = f", with {', '.join(self.flavour)}" if self.flavour else ""
        return f"{self.source.description}{flavour}"

    def fill(self, folder: Path) -> None:
        """Make the cache entry: sources, the build in them, the log, the description."""
        self._check_room()
        tree = obtain_source(
            self.source, store=self.store, deadline=self.deadline, progress=self.progress
        )
        require_compiler(tree, self.toolchain, self.source.description, self.deadline)
        copy = folder / TREE
        link_tree(tree, copy, self.deadline)
        build = copy / BUILD
        build.mkdir()
        with build_log(self.store, f"kernel-{self.key}", folder) as log_path:
            self._configure(copy, build, log_path)
            objects = self._compile(copy, log_path)
        version = (build / "include/config/kernel.release").read_text().strip()
        metadata = {
            "version": version,
            "digest": self.key,
            "compiler": self.toolchain.compiler,
            "cc": self.toolchain.cc,
            "source": self.description,
            "source_digest": self.source.digest,
            "series": ".".join(version.split(".")[:2]),
            "objects": str(objects),
        }
        (folder / METADATA).write_text(json.dumps(metadata, indent=1))

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.store.root).free
        if free < _ROOM_BYTES:
            raise NoSpace(
                f"a kernel needs {_ROOM_BYTES >> 30} GiB below {self.store.root}, "
                f"which has {free / (1 << 30):.1f}",
                hint="`klp-harness kernel prune` removes kernels that are not in use; "
                "KLP_HARNESS_CACHE moves the cache",
            )

    def _configure(self, copy: Path, build: Path, log_path: Path) -> None:
        self.progress.stage(f"configuring {self.description}")
        if self.whole is None:
            wanted = build.with_name(f"{BUILD}.allconfig")
            wanted.write_text(allconfig_text(self.requests))
            self._make(copy, log_path, f"KCONFIG_ALLCONFIG={wanted}", "allnoconfig")
            wanted.unlink()
        else:
            (build / ".config").write_text(self.whole.merged(self.requests, copy))
            self._make(copy, log_path, "olddefconfig")
            changes = self.whole.changes(self.requests, build / ".config", copy)
            write_changes(changes, copy.parent)
            LOGGER.warning(
                "%s options of %s have another value in the build; `klp-harness kernel build` "
                "with the same options lists them",
                *(len(changes), self.whole.name),
            )
        for line in verify(self.requests, build / ".config", copy):
            LOGGER.info("%s has no %s", self.source.description, line)
        config = KernelConfig.read(build / ".config")
        # The build makes its key: MODULE_SIG does, which all that enforce signatures need.
        signs = config.get("MODULE_SIG") == "y"
        require_for_guest(config, "the kernel as configured", signs=signs)

    def _compile(self, copy: Path, log_path: Path) -> int:
        self.progress.stage(f"building {self.description}")
        counter = ObjectCounter(self.progress, known_objects(self.store, self.description))
        config = KernelConfig.read(copy / BUILD / ".config")
        targets = [image_target(config), "modules"]
        if config.enabled("GDB_SCRIPTS"):
            targets.append("scripts_gdb")
        self._make(copy, log_path, jobs(), *targets, on_line=counter)
        make_relocatable(copy)
        return counter.done

    def _make(
        self,
        copy: Path,
        log_path: Path,
        *arguments: str,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        make(
            copy,
            self.toolchain,
            f"O={BUILD}",
            *arguments,
            what=self.description,
            log_path=log_path,
            deadline=self.deadline,
            # Sources from an archive are built once and kept whole, so that ccache would only cost
            # time. It pays where one state of a tree follows another.
            ccache=self.source.changes,
            on_line=on_line,
        )
