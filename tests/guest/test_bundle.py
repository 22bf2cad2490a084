# SPDX-License-Identifier: GPL-2.0-only
"""Patch bundles, steps 1 to 4 of the mail of October 2017: the model `bundle` of kernel-models/."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import ModuleRefused
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.resources import Resource, resource_dir
from harness.vm.guest import runs
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.module import obtain_modules
from harness.vm.kernel.progress import LineProgress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

BUNDLE, VMLINUX_PART, TARGET, TARGET_PART = (
    "klp_bundle",
    "klp_part_a",
    "klp_target_mod",
    "klp_part_b",
)
HEAD = """\
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

"""
TAIL = """
static struct klp_patch patch = {{ .mod = THIS_MODULE, .objs = objs{bundle} }};

static int __init bundle_init(void)
{{
	return klp_enable_patch(&patch);
}}

static void __exit bundle_exit(void)
{{
}}

module_init(bundle_init);
module_exit(bundle_exit);
MODULE_DESCRIPTION("Livepatch test: a bundle and its parts");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
"""
OBJECTS = """
static struct klp_func funcs[] = {{ {{ .old_name = "{function}", .new_func = new_body }}, {{ }} }};
static struct klp_object objs[] = {{ {{ .name = {object}, .funcs = funcs }}, {{ }} }};
"""
PART = f', .bundle = "{BUNDLE}"'
SOURCES = {
    BUNDLE: HEAD + "static struct klp_object objs[] = { { } };\n" + TAIL.format(bundle=""),
    VMLINUX_PART: HEAD
    + "static int new_body(struct seq_file *m, void *v)\n"
    + '{\n\tseq_puts(m, "part\\n");\n\treturn 0;\n}\n'
    + OBJECTS.format(function="cmdline_proc_show", object="NULL")
    + TAIL.format(bundle=PART),
    TARGET_PART: HEAD
    + 'static const char *new_body(void)\n{\n\treturn "f part";\n}\n'
    + OBJECTS.format(function="klp_target_f", object=f'"{TARGET}"')
    + TAIL.format(bundle=PART),
}
# The kernel calls it with the name that it asks for last.
LOADER = """\
#!/bin/sh
for name; do :; done
[ "$name" = klp-part-{target} ] || exit 1
exec /sbin/insmod {part}
"""
CMDLINE, TARGET_F = "/proc/cmdline", "/sys/kernel/klp_target/f"


@pytest.fixture(scope="module")
def bundle_kernel(kernel: Kernel) -> Kernel:
    """The kernel under test, made with that model."""
    patch = resource_dir(Resource.KERNEL_MODELS) / "bundle.patch"
    request = KernelRequest(spec=kernel.spec, fragments=("base", "livepatch"), patches=(patch,))
    return obtain_kernel(
        request, store=runs.store(), deadline=Deadline.after(3600), progress=LineProgress(print)
    )


@pytest.fixture
def bundle(
    bundle_kernel: Kernel, klp_session: Session, tmp_path: Path
) -> Iterator[tuple[Machine, Livepatch]]:
    """A guest of it, with the bundle's modules and the samples by their names."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "Kbuild").write_text("".join(f"obj-m += {name}.o\n" for name in SOURCES))
    for name, text in SOURCES.items():
        (folder / f"{name}.c").write_text(text)
    modules: dict[str, Path] = {}
    for source in (resource_dir(Resource.LIVEPATCH_MODULES), folder):
        modules |= obtain_modules(
            bundle_kernel, source, store=runs.store(), deadline=Deadline.after(1800)
        )
    with klp_session.guest(bundle_kernel, name="bundle") as guest:
        livepatch = Livepatch(guest, modules=modules)
        _ask(guest, modules)
        yield guest, livepatch
        guest.check_splats()


def _ask(guest: Machine, modules: Mapping[str, Path]) -> None:
    part = guest.upload(modules[TARGET_PART])
    done = guest.run(
        ["sh", "-c", "cat > /root/loader && chmod 0700 /root/loader"],
        stdin=LOADER.format(target=TARGET, part=part),
    )
    assert done.ok
    guest.write("/proc/sys/kernel/modprobe", "/root/loader")


@pytest.mark.slow(8)
def test_parts_are_enabled_as_one_and_for_a_target_that_comes(
    bundle: tuple[Machine, Livepatch],
) -> None:
    """A part does nothing by itself, takes effect with its bundle, and ends with it.

    The part of an unloaded target is asked for while the target is loaded, and the target's own
    init already sees its function.
    """
    guest, livepatch = bundle
    log = KernelLog(guest)
    plain = guest.read(CMDLINE)
    livepatch.load_target(VMLINUX_PART)
    assert guest.read(CMDLINE) == plain
    patch = livepatch.load(BUNDLE, wait=True)
    assert guest.read(CMDLINE) == "part\n"
    assert not livepatch.module(TARGET_PART).loaded
    target = livepatch.load_target(TARGET)
    assert livepatch.module(TARGET_PART).loaded
    assert log.matching("init sees: f part")
    assert guest.read(TARGET_F) == "f part\n"
    with pytest.raises(ModuleRefused):
        livepatch.module(VMLINUX_PART).unload()
    patch.disable()
    assert (guest.read(CMDLINE), guest.read(TARGET_F)) == (plain, "f original\n")
    patch.unload()
    for module in (livepatch.module(VMLINUX_PART), livepatch.module(TARGET_PART), target):
        module.unload()


@pytest.mark.slow(3)
def test_a_part_that_comes_too_late(bundle: tuple[Machine, Livepatch]) -> None:
    """The bundle is one: a part whose target is live already is refused, and changes nothing."""
    guest, livepatch = bundle
    livepatch.load_target(VMLINUX_PART)
    patch = livepatch.load(BUNDLE, wait=True)
    guest.write("/proc/sys/kernel/modprobe", "/bin/false")
    livepatch.load_target(TARGET)
    with pytest.raises(ModuleRefused, match="EBUSY"):
        livepatch.load_target(TARGET_PART)
    assert guest.read(TARGET_F) == "f original\n"
    patch.disable()
    patch.unload()
