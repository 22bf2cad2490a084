# SPDX-License-Identifier: GPL-2.0-only
"""Fragments: read, merged, and compared with what Kconfig made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.vm.kernel.config import (
    Fragment,
    KernelConfig,
    allconfig_text,
    fragment_names,
    load_fragments,
    merge,
    parse_fragment,
    verify,
)
from harness.vm.kernel.requirements import GUEST_NEEDS

if TYPE_CHECKING:
    from pathlib import Path

KCONFIG = """\
config KNOWN
    bool "known"

config NEEDY
    bool "needs what is not there"
    depends on MISSING && \\
               OTHER
    depends on THIRD

menuconfig MENU
    bool "a menu"
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder whose Kconfig knows three symbols."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/Kconfig.debug").write_text(KCONFIG)
    return tmp_path


def final(tree: Path, text: str) -> Path:
    (tree / ".config").write_text(text)
    return tree / ".config"


def test_lines_of_a_fragment() -> None:
    """Values, strings, "is not set" and comments, with the line each came from."""
    fragment = parse_fragment(
        '# a comment\nCONFIG_A=y\nCONFIG_S="a b"\n# CONFIG_B is not set\nCONFIG_N=20\n', "f"
    )
    assert [(r.symbol, r.value, r.line) for r in fragment] == [
        ("CONFIG_A", "y", 2),
        ("CONFIG_S", '"a b"', 3),
        ("CONFIG_B", "n", 4),
        ("CONFIG_N", "20", 5),
    ]


def test_optional_holds_for_the_next_line_only() -> None:
    """The reason stands above the one symbol that a kernel may lack."""
    fragment = parse_fragment("# optional: since 6.4\nCONFIG_A=y\nCONFIG_B=y\n", "f")
    assert [request.optional for request in fragment] == ["since 6.4", None]


def test_a_fragment_that_contradicts_itself() -> None:
    """Two values for one symbol in one file: both lines are named."""
    with pytest.raises(UsageError, match=r"line 1, .* in line 3"):
        parse_fragment("CONFIG_A=y\nCONFIG_B=y\n# CONFIG_A is not set\n", "f")


def test_a_line_that_is_no_option() -> None:
    """A typing error is not taken for a comment."""
    with pytest.raises(UsageError, match="f, line 2: 'CONFIG_A y'"):
        parse_fragment("CONFIG_B=y\nCONFIG_A y\n", "f")


def test_the_later_fragment_wins() -> None:
    """Where fragments differ the last one counts, and says so in its messages."""
    merged = merge(
        [
            parse_fragment("CONFIG_A=y\nCONFIG_B=y\n", "one"),
            parse_fragment("# CONFIG_A is not set\n", "two"),
        ]
    )
    assert {r.symbol: (r.value, r.fragment) for r in merged} == {
        "CONFIG_A": ("n", "two"),
        "CONFIG_B": ("y", "one"),
    }


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["CONFIG_A", "CONFIG_B", "CONFIG_C"]), st.sampled_from("ymn")
        ),
        max_size=4,
    )
)
def test_merging_is_a_chain_of_updates(layers: list[dict[str, str]]) -> None:
    """For any fragments, the merge is what updating one table with each in turn gives."""
    fragments: list[Fragment] = []
    expected: dict[str, str] = {}
    for layer in layers:
        text = "".join(
            f"{name}={value}\n" if value != "n" else f"# {name} is not set\n"
            for name, value in layer.items()
        )
        fragments.append(parse_fragment(text, "f"))
        expected |= layer
    assert {r.symbol: r.value for r in merge(fragments)} == expected


def test_the_request_for_kconfig_is_in_a_stable_order() -> None:
    """The key of a build is made of this text: the order of fragments' lines does not matter."""
    one = merge([parse_fragment("CONFIG_B=y\n# CONFIG_A is not set\n", "f")])
    two = merge([parse_fragment("# CONFIG_A is not set\nCONFIG_B=y\n", "f")])
    assert allconfig_text(one) == allconfig_text(two) == "# CONFIG_A is not set\nCONFIG_B=y\n"


def test_what_was_asked_for_and_came(tree: Path) -> None:
    """All values agree: strings without regard to quotes, "not set" with absence."""
    requests = merge(
        [
            parse_fragment(
                'CONFIG_KNOWN=y\nCONFIG_S="x"\nCONFIG_E=""\n# CONFIG_Q is not set\nCONFIG_N=0x10\n',
                "f",
            )
        ]
    )
    text = 'CONFIG_KNOWN=y\nCONFIG_S="x"\nCONFIG_E=""\nCONFIG_N=0x10\nCONFIG_MORE=y\n'
    assert verify(requests, final(tree, text), tree) == ()


@pytest.mark.parametrize(
    ("fragment", "config", "said"),
    [
        ("CONFIG_TYPO=y", "", "f, line 1: CONFIG_TYPO wanted y, got n: this kernel knows no such"),
        ("CONFIG_KNOWN=y", "CONFIG_KNOWN=m", "CONFIG_KNOWN wanted y, got m: another option"),
        (
            "\nCONFIG_NEEDY=y",
            "# CONFIG_NEEDY is not set",
            (
                "f, line 2: CONFIG_NEEDY wanted y, got n: its dependencies are not met "
                "(depends on MISSING && OTHER && THIRD)"
            ),
        ),
        ("# CONFIG_MENU is not set", "CONFIG_MENU=y", "CONFIG_MENU wanted n, got y: another"),
        ("CONFIG_KNOWN=20", "CONFIG_KNOWN=17", "CONFIG_KNOWN wanted 20, got 17"),
    ],
)
def test_what_was_asked_for_and_did_not_come(
    tree: Path, fragment: str, config: str, said: str
) -> None:
    """The error names fragment, line, symbol, wanted, got, and which of the causes it is."""
    requests = merge([parse_fragment(fragment, "f")])
    with pytest.raises(UsageError) as caught:
        verify(requests, final(tree, config + "\n"), tree)
    assert len(caught.value.details) == 1
    assert said in caught.value.details[0]


def test_every_mismatch_is_reported(tree: Path) -> None:
    """One run shows all of them, not the first alone."""
    requests = merge([parse_fragment("CONFIG_A=y\nCONFIG_KNOWN=y\nCONFIG_NEEDY=y\n", "f")])
    with pytest.raises(UsageError, match="CONFIG_A, CONFIG_KNOWN, CONFIG_NEEDY as") as caught:
        verify(requests, final(tree, ""), tree)
    assert len(caught.value.details) == 3


def test_optional_allows_a_kernel_without_the_symbol(tree: Path) -> None:
    """An unknown optional symbol is reported; a known one must come all the same."""
    requests = merge([parse_fragment("# optional: since 6.4\nCONFIG_NEW=y\n", "f")])
    assert verify(requests, final(tree, ""), tree) == ("CONFIG_NEW (since 6.4)",)
    requests = merge([parse_fragment("# optional: since 6.4\nCONFIG_KNOWN=y\n", "f")])
    with pytest.raises(UsageError, match=r"does not have CONFIG_\w+ as a fragment asks for"):
        verify(requests, final(tree, ""), tree)


def test_reading_a_config(tree: Path) -> None:
    """Values with and without the prefix; the digest does not depend on order or comments."""
    config = KernelConfig.read(
        final(tree, '# x\nCONFIG_A=m\nCONFIG_S="t"\n# CONFIG_B is not set\n')
    )
    assert (config.get("A"), config.get("CONFIG_S"), config.get("B")) == ("m", "t", None)
    assert config.enabled("A")
    assert not config.enabled("S")
    other = KernelConfig.read(final(tree, 'CONFIG_S="t"\nCONFIG_A=m\n'))
    assert config.digest() == other.digest()
    assert config.digest() != KernelConfig({"CONFIG_A": "y", "CONFIG_S": "t"}).digest()


def test_the_fragments_we_bring() -> None:
    """Each can be read, and base with livepatch asks for all that a guest needs."""
    assert {"base", "livepatch", "debug"} <= set(fragment_names())
    load_fragments(fragment_names())
    merged = merge(load_fragments(("base", "livepatch")))
    asked = {request.symbol for request in merged if request.value == "y"}
    assert {f"CONFIG_{name}" for name in GUEST_NEEDS} <= asked


def test_a_fragment_by_path(tmp_path: Path) -> None:
    """A user's own file is taken by its path; a name that is neither is answered with the names."""
    (tmp_path / "mine.config").write_text("CONFIG_A=y\n")
    (fragment,) = load_fragments([str(tmp_path / "mine.config")])
    assert fragment[0].symbol == "CONFIG_A"
    with pytest.raises(UsageError, match="no kernel configuration fragment") as caught:
        load_fragments(["nonsense"])
    assert caught.value.hint is not None
    assert "livepatch" in caught.value.hint
