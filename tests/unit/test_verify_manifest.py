# SPDX-License-Identifier: GPL-2.0-only
"""klp-verify.toml: the cells that a manifest makes, and what is said of a mistake in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.tools.verify.matrix.from_manifest import plan_of
from harness.tools.verify.matrix.manifest import read_manifest
from harness.tools.verify.matrix.plan import MatrixPlan
from harness.tools.verify.matrix.toml_lines import key_lines

KERNELS = """
[[kernel]]
spec = "6.1"
[[kernel]]
spec = "6.12"
name = "twelve"
kernel-config = "debug"
"""


def folder_of(tmp_path: Path, text: str, *files: str) -> Path:
    """Write a manifest and the sources of modules beside it; return the manifest."""
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("obj-m += x.o\n")
    manifest = tmp_path / "klp-verify.toml"
    manifest.write_text(text)
    return manifest


def plan(tmp_path: Path, text: str, *files: str) -> MatrixPlan:
    return plan_of(read_manifest(folder_of(tmp_path, text, *files)))


def test_lines_of_keys() -> None:
    """Keys are found behind values of several lines, in arrays of tables, and as dotted keys."""
    text = '[[a]]\nx = [\n ["y"], # ]\n]\n[[a]]\n[a.b]\n"c-d" = """\n[no]\nz = 1\n"""\ne.f = 2\n'
    lines = key_lines(text)
    assert lines["a", 0, "x"] == 2
    assert lines["a", 1] == 5
    assert lines["a", 1, "b", "c-d"] == 7
    assert lines["a", 1, "b", "e", "f"] == 11
    assert not any("z" in place or "y" in place or "no" in place for place in lines)


def test_globs_and_inheritance(tmp_path: Path) -> None:
    """A glob makes a row for each folder; a patch's own value replaces what it inherits."""
    made = plan(
        tmp_path,
        KERNELS
        + """
[defaults]
cycles = 5
check = "checks/{name}.sh"
[settings.slow]
within = 60
cycles = 9
[settings.slower]
inherits = "slow"
cycles = 11
[[patch]]
module = "patches/*/"
exclude = ["klp_other"]
kernel = "6.1"
[[patch]]
module = "patches/klp_other"
inherits = "slower"
check = "checks/klp_one.sh"
param = { a = "1" }
""",
        *(f"patches/{name}/Kbuild" for name in ("klp_one", "klp_two", "klp_other")),
        *(f"checks/{name}.sh" for name in ("klp_one", "klp_two")),
    )
    assert made.rows == ("klp_one", "klp_two", "klp_other")
    assert [cell.id for cell in made.cells] == [
        "klp_one@6.1",
        "klp_two@6.1",
        "klp_other@6.1",
        "klp_other@twelve",
    ]
    one, other = made.cells[0], made.cells[-1]
    assert one.module == str(tmp_path / "patches/klp_one")
    assert one.check == str(tmp_path / "checks/klp_one.sh")
    assert one.settings == {"cycles": 5}
    assert other.settings == {"cycles": 11, "within_s": 60, "params": {"a": "1"}}
    assert made.columns[1].options.fragments == ("debug",)


def test_a_file_for_each_kernel(tmp_path: Path) -> None:
    """{kernel} names the kernel; what a glob finds for one kernel only is not run on the other."""
    modules = Path(__file__).parent / "data/modules"
    for place, names in {"6.1": ("klp_a.ko", "klp_b.ko"), "twelve": ("klp_a.ko",)}.items():
        for name in names:
            path = tmp_path / "out" / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((modules / "klp_target_gate.ko").read_bytes())
    made = plan(tmp_path, KERNELS + '[[patch]]\nmodule = "out/{kernel}/*.ko"\n')
    assert [cell.id for cell in made.cells if cell.not_run is None] == [
        "klp_a@6.1",
        "klp_b@6.1",
        "klp_a@twelve",
    ]
    (missing,) = (cell for cell in made.cells if cell.not_run is not None)
    assert (missing.id, "klp_b" in (missing.not_run or "")) == ("klp_b@twelve", True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[patch]]\nmodules = 1\n", r"klp-verify.toml:2: patch.1.modules: there is no such key"),
        ("patches = 1\n", r"klp-verify.toml:1: patches: there is no such key"),
        ("[[patch]]\n\nmodule = 3\n", r"klp-verify.toml:3: patch.1.module: input should be"),
        ("[[patch]]\nname = 'x'\n", r"klp-verify.toml:1: patch.1: a patch has either"),
        ("[[patch]]\nmodule = 'a/b'\n", r"klp-verify.toml:2: patch.1.module: there is no file"),
        ("[[patch]]\nmodule = 'a/*'\n", r"klp-verify.toml:2: patch.1.module: no file matches"),
        (
            "[[patch]]\nmodule = 'klp_test_gate'\ncheck = 'no.sh'\n",
            r"klp-verify.toml:3: patch.1.check: there is no check script",
        ),
        (
            "[defaults]\ntarget = ['t.ko']\n[[patch]]\nmodule = 'klp_test_gate'\n",
            r"klp-verify.toml:2: defaults.target: there is no file",
        ),
        (
            "[[patch]]\nmodule = 'klp_test_gate'\nkernel = ['6.1', '5.4']\n",
            r"klp-verify.toml:3: patch.1.kernel: there is no kernel 5.4",
        ),
        (
            "[[patch]]\nmodule = 'klp_test_gate'\ninherits = 'x'\n",
            r"klp-verify.toml:3: patch.1.inherits: there is no \[settings.x\]",
        ),
        (
            (
                "[settings.a]\ninherits = 'b'\n[settings.b]\ninherits = 'a'\n"
                "[[patch]]\nmodule = 'klp_test_gate'\ninherits = 'a'\n"
            ),
            r"klp-verify.toml:4: settings.b.inherits: settings inherit each other: a -> b -> a",
        ),
        (
            "[[patch]]\nmodule = 'klp_test_gate'\n[[patch]]\nmodule = 'klp_test_gate'\n",
            r"klp-verify.toml:3: patch.2: two patches are named klp_test_gate",
        ),
        (
            "[[kernel]]\nspec = '6.1'\nkernel-config = 'no'\n[[patch]]\nmodule = 'klp_test_gate'\n",
            r"klp-verify.toml:2: kernel.1.spec: ",
        ),
        (
            "[[patch]]\nmodule = 'klp_test_gate'\nscene = ['idle', 'no']\n",
            r"klp-verify.toml:3: patch.1.scene: verify has no scene no",
        ),
        (
            "[[patch]]\nmodule = 'klp_test_gate'\ncheck = '{moon}.sh'\n",
            r"klp-verify.toml:3: patch.1.check: \{moon\} stands for nothing here",
        ),
        ("[[patch]\n", r"klp-verify.toml is no TOML: .*line 1"),
        ("", r"klp-verify.toml names no patch"),
    ],
)
def test_a_mistake_in_a_manifest(tmp_path: Path, text: str, says: str) -> None:
    """Each mistake names file, line and key, before a kernel is looked for."""
    with pytest.raises(UsageError, match=says):
        plan(tmp_path, text)
