# SPDX-License-Identifier: GPL-2.0-only
# What a person types here. Every target first sets up what it needs: system packages where it may, the
# virtual environment, and then the command itself builds the kernel. The second run reuses all of it.
#
# ARGS="..." hands arguments on to klp-harness, for example make test ARGS="--kernel 6.1 -k TR-01".
# PYTHON=... chooses the interpreter; it must be 3.11 or later.

.DEFAULT_GOAL := help
.SUFFIXES:

ARGS ?=
PYTHON ?=
export PYTHON

# A recipe ends in exec, so that make is the parent of the command; with this the command dies with make,
# and its guests with it: kill -9 of make leaves no QEMU.
RUN := KLP_HARNESS_DIE_WITH_PARENT=1 exec .venv/bin/klp-harness
VENV_PYTHON := .venv/bin/python
# What grades the harness itself is no part of the command.
GRADE := KLP_HARNESS_DIE_WITH_PARENT=1 exec $(VENV_PYTHON) -m benchmarks

.PHONY: help
help: ## what can be made here (this text)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

.PHONY: demo
demo: setup ## a livepatched kernel and its transition timeline, from nothing
	@$(RUN) demo $(ARGS)

.PHONY: test
test: setup ## the behaviour suite and the harness's own tests, on real kernels in QEMU
	@$(RUN) test --all $(ARGS)

.PHONY: test-long
test-long: setup ## tests that take minutes each, or build a kernel of their own
	@$(RUN) test tests/long $(ARGS)

.PHONY: matrix
matrix: setup ## the behaviour suite on 5.10, 6.1, 6.12 and the newest kernel: rule x kernel
	@$(RUN) matrix $(ARGS)

.PHONY: mutants
mutants: setup ## break the kernel on purpose, in over a hundred ways, and see which tests notice
	@$(RUN) mutants run $(ARGS)

.PHONY: race
race: setup ## look for races, each call judged; only what is not known of the kernel is a failure
	@$(RUN) race run --excuse-expected --oracle $(ARGS)

.PHONY: bench
bench: setup ## measure the budgets; each figure with the one it is compared to
	@$(GRADE) bench $(ARGS)

.PHONY: grade
grade: setup ## break correct livepatches in their files, and see which checks of verify notice
	@$(GRADE) grade $(ARGS)

# SECONDS=600 is enough to see whether anything grows; an hour, the default, whether it does slowly.
SECONDS := 3600
.PHONY: soak
soak: setup ## everything in turns for an hour, and whether anything grows or goes wrong
	@$(GRADE) soak --seconds $(SECONDS) $(ARGS)

# The site's own tool is installed when it is first needed. Zensical's --strict ends the build at a broken link.
.PHONY: docs
docs: setup ## the documents as a site, in build/docs/site
	@$(VENV_PYTHON) -c 'import zensical' 2>/dev/null || $(VENV_PYTHON) -m pip install --quiet \
		--disable-pip-version-check $(addprefix --constraint ,$(wildcard constraints.txt)) --editable '.[docs]'
	@$(VENV_PYTHON) .ci/docs_site.py
	@exec $(VENV_PYTHON) -m zensical build --strict --clean

.PHONY: check
check: lint types spelling shell yaml secrets unit checkpatch ## everything that needs no QEMU: linters, mypy, unit tests, checkpatch

.PHONY: lint
lint: setup
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .

.PHONY: types
types: setup
	@$(VENV_PYTHON) -m mypy

# Of all files that git tracks; .ci/codespell-ignore.txt has the words that are right here.
.PHONY: spelling
spelling: setup
	@git ls-files -z | xargs -0 .venv/bin/codespell --

.PHONY: shell
shell: setup
	@.venv/bin/shellcheck .ci/run bin/klp-harness $$(git ls-files '*.sh')

# Without the network: the schemas come with check-jsonschema, and zizmor looks at the files alone.
SCHEMA := .venv/bin/check-jsonschema --quiet --builtin-schema
WORKFLOWS := .github/workflows/*.yml docs/ci-examples/github.yml
.PHONY: yaml
yaml: setup
	@.venv/bin/yamllint --strict .
	@$(SCHEMA) vendor.github-workflows $(WORKFLOWS)
	@$(SCHEMA) custom.github-workflows-require-timeout $(WORKFLOWS)
	@$(SCHEMA) vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	@$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	@$(SCHEMA) vendor.dependabot .github/dependabot.yml
	@$(SCHEMA) vendor.gitlab-ci --data-transform gitlab-ci docs/ci-examples/gitlab-ci.yml
	@.venv/bin/zizmor --offline --quiet --no-progress .github docs/ci-examples/github.yml

# Keys and tokens by their form, without asking any service. What finds them by entropy or by a variable's name sees
# the digests and kernel logs of this project.
.PHONY: secrets
secrets: setup
	@git ls-files -z | xargs -0 .venv/bin/detect-secrets-hook --no-verify --cores 2 \
		--disable-plugin Base64HighEntropyString --disable-plugin HexHighEntropyString \
		--disable-plugin KeywordDetector --

.PHONY: unit
unit: setup
	@KLP_HARNESS_DIE_WITH_PARENT=1 exec $(VENV_PYTHON) -m pytest -q -n auto tests/unit tests/faults tests/fuzz

.PHONY: fuzz
fuzz: setup ## fuzz every reader of text from outside: make fuzz ARGS="--seconds 3600"
	@exec $(VENV_PYTHON) -m tests.fuzz $(ARGS)

# The C sources in kernel style. checkpatch.pl comes with the kernel source in the cache.
.PHONY: checkpatch
checkpatch: setup
	@exec $(VENV_PYTHON) .ci/checkpatch.py livepatch-modules guest-programs qemu-plugin tests/corpus

.PHONY: format
format: setup ## put the Python code into its one format
	@$(VENV_PYTHON) -m ruff check --fix-only .
	@$(VENV_PYTHON) -m ruff format .

# make constraints ARGS=--upgrade takes the newest version of each package; without it, only what no longer fits.
.PHONY: constraints
constraints: setup
	@$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check uv
	@.venv/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --all-extras --no-header \
		$(ARGS) --output-file constraints.txt pyproject.toml
	@sed -i '1i # SPDX-License-Identifier: GPL-2.0-only\n# Made by `make constraints` (uv pip compile); CONTRIBUTING.md says when.' \
		constraints.txt

# Looks for a Python that is new enough; only where there is none at all, and where it may, it installs one. What only
# tests and checks of the harness need is left out while nothing but the demo is made.
SETUP_ARGS := $(if $(filter-out demo,$(MAKECMDGOALS)),,--to-run)
.PHONY: setup
setup:
	@find_python() { \
		for name in "$$PYTHON" python3 python3.14 python3.13 python3.12 python3.11; do \
			[ -n "$$name" ] || continue; \
			python=$$("$$name" -c 'import sys; sys.version_info < (3, 11) or print(sys.executable)' 2>/dev/null); \
			[ -z "$$python" ] || return 0; \
			[ "$$name" != "$$PYTHON" ] || return 1; \
		done; \
		return 1; \
	}; \
	if ! find_python && [ -z "$$PYTHON" ] && [ "$$(id -u)" = 0 ] \
			&& ! command -v python3 >/dev/null && command -v apt-get >/dev/null; then \
		apt-get update -q && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -q --no-install-recommends python3 python3-venv; \
	fi; \
	if ! find_python; then \
		found=$$("$${PYTHON:-python3}" --version 2>&1 | head -n 1); \
		echo "klp-harness: it needs Python 3.11 or later; found: $$found" >&2; \
		echo "hint: install it with its venv module, or name one: make PYTHON=/path/to/python3" >&2; \
		exit 2; \
	fi; \
	exec "$$python" -m harness.vm.host.bootstrap $(SETUP_ARGS)

.PHONY: clean
clean: ## remove the virtual environment and what tools leave behind; the cache of kernels stays
	@rm -rf .venv .venv.old dist build .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find harness tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
