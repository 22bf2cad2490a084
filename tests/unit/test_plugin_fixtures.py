# SPDX-License-Identifier: GPL-2.0-only
"""The plugin's fixtures where they need no guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]


def test_template_still_works_and_says_what_to_take(pytester: pytest.Pytester) -> None:
    """Tests of others may have the old fixture; it is one object with the two that replace it."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="session")
        def kernel(): return "a kernel"

        @pytest.fixture(scope="session")
        def klp_session(): return "a session"

        def test_it(template):
            assert (template.kernel, template.session) == ("a kernel", "a session")
        """
    )
    ran = pytester.runpytest_inprocess("-p", "no:xdist")
    ran.assert_outcomes(passed=1, warnings=1)
    ran.stdout.fnmatch_lines("*the fixture template is deprecated: take kernel and klp_session*")


def test_needed_features_of_a_test_that_starts_its_guests_itself(
    pytester: pytest.Pytester,
) -> None:
    """Marker needs holds without the fixture guest too, when the test has the kernel."""
    pytester.makepyfile(
        """
        from types import SimpleNamespace

        import pytest

        @pytest.fixture(scope="session")
        def kernel():
            config = SimpleNamespace(enabled=lambda name: name == "LIVEPATCH")
            return SimpleNamespace(version="6.1", config=config)

        @pytest.mark.needs("CONFIG_LIVEPATCH")
        def test_has(kernel): pass

        @pytest.mark.needs("CONFIG_LIVEPATCH")
        @pytest.mark.needs("CONFIG_EXT4_FS")
        def test_lacks(kernel): pass

        @pytest.mark.needs("CONFIG_EXT4_FS")
        def test_without(): pass
        """
    )
    ran = pytester.runpytest_inprocess("-p", "no:xdist", "-rs")
    ran.assert_outcomes(passed=2, skipped=1)
    ran.stdout.fnmatch_lines("*kernel 6.1 is built without CONFIG_EXT4_FS*")
