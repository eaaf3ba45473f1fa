# For a Debian 12 or 13, as root, with make and git: each target installs what it lacks, by
# apt-get (tests/need) and with pip in .venv, and then runs.
.PHONY: demo test test-unit test-guest fidelity bench lint need-demo need-test

sources := setup.cfg pyproject.toml $(shell find nri_hook schemas docs/man -name '*.py' -o -name '*.json' \
  -o -name '*.sh' -o -name '*.[15]')

demo: need-demo .venv/installed
	@.venv/bin/python demo/run

test: need-test test-unit
	.venv/bin/python -m pytest -n 3 --timeout 120 -m "not guest and not tcg and not v1" tests/e2e

# As any user, on every Python from 3.9 to 3.14 that is here.
test-unit: .venv/tools
	.venv/bin/python tests/unit/everywhere

test-guest:
	@tests/need python3
	@tests/guest/suite

# The whole table, here and in the guests, and docs/fidelity.md from it.
fidelity: need-test .venv/tools
	@tests/e2e/fidelity/everywhere

# What the hook costs, here, and docs/performance.md from it; on a machine with nothing else to do.
bench: need-test .venv/tools
	@cd tests && ../.venv/bin/python -m bench

lint: .venv/tools
	.venv/bin/codespell
	.venv/bin/ruff check .
	.venv/bin/ruff format --check --quiet .
	.venv/bin/mypy --strict nri_hook

need-demo:
	@tests/need root runc busybox-static python3-venv

need-test:
	@tests/need root runc crun podman conmon busybox-static strace jq mandoc python3-venv

# Installed, not editable: the launcher runs Python without site, which is what finds an editable
# package's parts (nri_hook/schemas is schemas/ here), and a demo is of what users install.
# build/ is pip's own leaving; from an old one, modules that are gone would come back.
.venv/installed: $(sources) | .venv/bin/pip
	@rm -rf build nri_hook.egg-info
	@.venv/bin/pip install --quiet --disable-pip-version-check .
	@touch $@

.venv/tools: pyproject.toml .venv/installed
	@.venv/bin/pip install --quiet --disable-pip-version-check '.[test,dev]'
	@touch $@

.venv/bin/pip:
	@tests/need python3-venv
	@python3 -m venv .venv
