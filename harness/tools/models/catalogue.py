# SPDX-License-Identifier: GPL-2.0-only
"""The consistency models that can be booted: Linux's own, and those of kernel-models/.

docs/models.md has the names of the fields in a patch's header. Where the code of a later series
differs, a port is in a folder named after the first series that it is written for.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import KernelUnfit, UsageError
from harness.inputs import user_path
from harness.resources import Resource, resource_dir
from harness.tools.models.cells import Cell
from harness.tools.models.results import Leave, Switch
from harness.vm.kernel.patch_file import header_fields, read_patch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.cli.options import KernelOptions

ALL = "all"
_SUFFIX = ".patch"
_SERIES = re.compile(r"\d+\.\d+\Z")
_FIELDS = ("Model", "Systems", "Mail", "Place", "Cannot", "Kernels")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A consistency model, and how its kernel is made of the sources.

    ``does`` says how it works, ``systems`` who has it, ``mail`` who proposed it, ``cannot`` what it
    cannot do. ``kernels`` are the series that ``path`` is written for (empty: any), ``fragments``
    the config fragments that it needs.
    """

    name: str
    does: str
    systems: str
    mail: str
    cell: Cell
    cannot: str
    kernels: tuple[str, ...] = ()
    path: Path | None = None
    fragments: tuple[str, ...] = ()
    ports: tuple[Model, ...] = ()

    def options(self, kernel: KernelOptions, series: str) -> KernelOptions:
        """Return the options of this model's kernel, made of that kernel of that series.

        Raises KernelUnfit when the model is not written for the series.
        """
        form = next((each for each in (self, *self.ports) if each.suits(series)), None)
        if form is None:
            written = ", ".join(name for each in (self, *self.ports) for name in each.kernels)
            raise KernelUnfit(
                f"the model {self.name} is not written for {series}",
                hint=f"it is written for {written}: --kernel {self.kernels[0]}",
            )
        patches = (form.path,) if form.path is not None else ()
        return replace(
            kernel,
            fragments=(*kernel.fragments, *form.fragments),
            patches=(*patches, *kernel.patches),
        )

    def suits(self, series: str) -> bool:
        """Return whether its patch is written for a series such as ``6.1``."""
        return not self.kernels or series in self.kernels


LINUX = Model(
    name="linux",
    does="a task switches when no patched function is on its stack, or on its way to user mode",
    systems="Linux since 4.12, a hybrid of kGraft and kpatch (commit d83a7cb3)",
    mail="Josh Poimboeuf, 9 February 2015: rfc-2015",
    cell=Cell(leave=Leave.PATCHED_SET, switch=Switch.THREAD),
    cannot="switch a task that sleeps in a patched function until it leaves it; old and new "
    "functions run side by side until then",
)
NO_RELIABLE_STACK = Model(
    name="no-reliable-stack",
    does="a user task switches on its way to user mode; no stack can be checked",
    systems="Linux without HAVE_RELIABLE_STACKTRACE (commit 67059d65)",
    mail="Josh Poimboeuf, 9 February 2015: rfc-2015; Ingo Molnar, 20 February 2015: design-2015",
    cell=Cell(leave=Leave.KERNEL, switch=Switch.THREAD),
    cannot="switch a kernel thread: a transition ends only by force",
    fragments=("no-reliable-stack",),
)


def load_models(folder: Path | None = None) -> tuple[Model, ...]:
    """Return all models: Linux's own two, then those of a folder of patches, by name.

    Raises UsageError for a patch without a full header, and PatchDoesNotApply for what is no patch.
    """
    folder = folder or resource_dir(Resource.KERNEL_MODELS)
    found = {path.stem: read_model(path) for path in sorted(folder.glob(f"*{_SUFFIX}"))}
    for inner in sorted(path for path in folder.iterdir() if _SERIES.match(path.name)):
        for path in sorted(inner.glob(f"*{_SUFFIX}")):
            first = found.get(path.stem)
            if first is None:
                raise UsageError(f"{inner.name}/{path.name} is a port of no model in {folder.name}")
            found[path.stem] = replace(first, ports=(*first.ports, read_model(path)))
    return (LINUX, NO_RELIABLE_STACK, *found.values())


def read_model(path: Path) -> Model:
    """Read a patch and its header; raises as `load_models` does."""
    fields = header_fields(read_patch(path).text, _FIELDS)
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise UsageError(f"{path.name}: its header lacks {missing[0]}")
    try:
        leave, switch = (word.strip() for word in fields["Place"].split(","))
        cell = Cell(leave=Leave(leave), switch=Switch(switch))
    except ValueError as error:
        raise UsageError(
            f"{path.name}: Place is {fields['Place']}, which is no place in the table",
            hint=f"it is one of {', '.join(Leave)} and one of {', '.join(Switch)}",
        ) from error
    return Model(
        name=path.stem,
        does=fields["Model"],
        systems=fields["Systems"],
        mail=fields["Mail"],
        cell=cell,
        cannot=fields["Cannot"],
        kernels=tuple(fields["Kernels"].split()),
        path=path.absolute(),
    )


def choose_models(names: Iterable[str], models: Sequence[Model]) -> tuple[Model, ...]:
    """Return the models of these names in that order, each once; ``all`` stands for all of them.

    A name that ends with .patch is a file. Raises UsageError for a name unknown, and as
    `load_models` does.
    """
    known = {model.name: model for model in models}
    chosen: dict[str, Model] = {}
    for name in names:
        if name == ALL:
            chosen |= known
        elif name in known:
            chosen[name] = known[name]
        elif name.endswith(_SUFFIX):
            model = read_model(user_path(Path(name), "the model"))
            chosen[model.name] = model
        else:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}, {ALL}"
            raise UsageError(f"there is no model {name}", hint=hint)
    return tuple(chosen.values())
