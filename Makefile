# Everything a person does in this checkout. `make run` and `make test` each set up what they need, from nothing but
# make and Python 3.11+; written for GNU make 3.81 (macOS) and a POSIX shell, and for a path with spaces in it.

VENV := .venv
PY := $(VENV)/bin/python

# The first Python that is new enough, unless one is named: make run PYTHON=python3.12
PYTHON = $(or $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$python && break; \
	done),python3)

# Set-up is done when a file exists whose name is a checksum of everything it depends on: the locks, the packaging and
# the folder (an environment cannot be moved). A changed lock gives another name and is installed.
checksum = $(shell { pwd -P; cat pyproject.toml $(1); } | cksum | tr ' ' '-')
RUNTIME := $(VENV)/.ready-run-$(call checksum,requirements.lock)
DEV := $(VENV)/.ready-test-$(call checksum,requirements.lock requirements-dev.lock)

# The benchmark's peers have an environment of their own: their packages must not be present when the pipeline is used or
# tested.
BENCH_VENV := .venv-bench
BENCH := $(BENCH_VENV)/.ready-$(call checksum,requirements-bench.lock)

# So have the tests of the lake mode and of clusters: `make test` must show that everything else needs none of their
# libraries.
CLUSTER_VENV := .venv-cluster
CLUSTER := $(CLUSTER_VENV)/.ready-$(call checksum,requirements-cluster.lock)
# Debian keeps the server's programs out of PATH.
POSTGRES := $(if $(wildcard /usr/lib/postgresql/*/bin/initdb)$(shell command -v initdb 2>/dev/null),,postgresql)

# So has pip-audit: what it needs must not decide which packages the pipeline is tested with.
AUDIT_VENV := .venv-audit
AUDIT := $(AUDIT_VENV)/.ready-$(call checksum,requirements-audit.lock)

# Set up again, whatever the name says: after an interrupted installation, when the environment's Python is gone, and when
# PYTHON names another version than the environment's.
BUSY := $(VENV)/.busy
version = $(shell $(1) -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null || echo gone)
ifneq ($(wildcard $(BUSY)),)
ifneq ($(shell kill -0 "$$(cat $(BUSY))" 2>/dev/null || echo dead),)
$(RUNTIME): again
endif
endif
ifneq ($(wildcard $(VENV)/.place),)
ifeq ($(call version,$(PY)),gone)
$(RUNTIME): again
else ifneq ($(filter command environment,$(origin PYTHON)),)
ifneq ($(call version,$(PYTHON)),$(call version,$(PY)))
$(RUNTIME): again
endif
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup run test test-cluster postgresql ui drill drill-all bench check lint types fmt docs audit lock clean sample again

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(RUNTIME) ## set up .venv and no more
	@echo "Next: source $(VENV)/bin/activate"

# The customers of each risk level: the first question to such a table.
QUESTION = SELECT churn_risk, count(*) AS customers, round(avg(health_score), 1) AS avg_health, \
	sum(mrr) AS mrr FROM merged_profiles GROUP BY churn_risk ORDER BY avg_health

run: $(RUNTIME) sample ## set up, make sample data if there is none, run the pipeline, show its result
	@$(VENV)/bin/etl-assets run
	@echo
	@echo '$(VENV)/bin/etl-assets query "$(QUESTION)"'
	@$(VENV)/bin/etl-assets query "$(QUESTION)"

ui: $(RUNTIME) sample ## serve the Dagster UI on this machine
	@$(VENV)/bin/etl-assets ui

drill: $(RUNTIME) ## break shards on purpose and watch them recover
	@$(VENV)/bin/etl-assets drill

# The fault harness, then mutated exports and mutated state.
DRILLS := $(addprefix etl_assets_tests/whole/,test_harness.py test_parquet_fuzz.py test_state.py)
# HARNESS_SEED=… plays the same random schedules again; HARNESS_RANDOM is their number.
drill-all: $(DEV) ## break every point of the pipeline in every way, then at random (half an hour)
	HARNESS_ALL=1 HARNESS_RANDOM="$${HARNESS_RANDOM:-200}" $(PY) -m pytest -s -q $(DRILLS) $(ARGS)

# make bench ARGS="--rows 100_000 --repeat 5"; all of them: make bench ARGS=--help
bench: $(BENCH) ## measure the pipeline and five other ways on the same data (a quarter of an hour; see bench/README.md)
	@$(PY) -m bench.run $(ARGS)

# Only if there are no exports yet: your own, in data/sources or in ETL_SOURCES, are left alone.
sample: $(RUNTIME)
	@if [ -z "$$ETL_SOURCES" ] && [ -z "$$(ls -A data/sources 2>/dev/null)" ]; then \
		$(VENV)/bin/etl-assets generate --rows 100000 --seed 42 --dirty 0.02 --out data/sources; \
	fi

test: $(DEV) ## run the tests but those of the lake mode and of clusters (make test ARGS="-k merge" for some of them)
	$(PY) -m pytest $(ARGS)

# CLUSTER_ARGS="-m 'not slow'" leaves out the long ones, as .ci/run does.
test-cluster: $(CLUSTER) $(POSTGRES) ## run the tests of the lake mode and of clusters, with servers on this machine (many minutes)
	$(CLUSTER_VENV)/bin/python -m pytest etl_assets_tests/lake etl_assets_tests/cluster $(CLUSTER_ARGS)

# The tests start a server of their own. Where it cannot be installed, those that need it fail and say what to do.
postgresql:
	@echo "Installing PostgreSQL for the tests of clusters."
	@as_root=; [ "$$(id -u)" = 0 ] || as_root="sudo -n"; $$as_root apt-get update -qq && $$as_root env \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null || true

check: lint types test ## formatting, lint, types and tests

lint: $(DEV) ## check formatting, lint and the directions of imports
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(VENV)/bin/lint-imports setup.cfg >/dev/null || $(VENV)/bin/lint-imports setup.cfg

types: $(DEV) ## check types
	$(PY) -m mypy

fmt: $(DEV) ## format the code and fix what lint can fix
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

docs: $(RUNTIME) ## write docs/reference/ again from the code
	@$(PY) docs/generate.py

# pip-audit exits with 1 for a vulnerability and for a missing network alike; only its report goes to stdout. Strict,
# because it passes over packages that the service does not know: a mirror may know none.
audit: $(AUDIT) ## look up known vulnerabilities of the locked packages (needs a network)
	@failed=; for lock in requirements*.lock; do \
		echo "$$lock:"; \
		report=$$($(AUDIT_VENV)/bin/pip-audit --progress-spinner off --strict --disable-pip --require-hashes -r $$lock \
			2>$(AUDIT_VENV)/errors) && echo "$${report:-  no known vulnerabilities}" && continue; \
		if [ -z "$$report" ]; then \
			tail -n 3 $(AUDIT_VENV)/errors >&2; \
			echo "$$lock was not looked up; see above. make audit needs a network, and no mirror in the way." >&2; exit 2; \
		fi; \
		echo "$$report"; failed=1; \
	done; [ -z "$$failed" ]

# Without --no-strip-extras pip refuses the result; index addresses are left out, so that it installs from any mirror.
COMPILE = UV_CUSTOM_COMPILE_COMMAND='make lock' $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-strip-extras $(if $(UPGRADE),--upgrade)

lock: $(DEV) ## update the lock files from pyproject.toml (make lock UPGRADE=1 for the newest releases)
	$(COMPILE) pyproject.toml --group build --output-file requirements.lock
	$(COMPILE) --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(COMPILE) --group bench --constraint requirements.lock --output-file requirements-bench.lock
	$(COMPILE) pyproject.toml --extra lake --extra postgres --extra ray --group build --group dev --group cluster \
		--constraint requirements.lock --constraint requirements-dev.lock --output-file requirements-cluster.lock
	$(COMPILE) --group audit --output-file requirements-audit.lock

clean: ## remove the environments, caches and build artefacts; data and the run history stay
	rm -rf $(VENV) $(BENCH_VENV) $(CLUSTER_VENV) $(AUDIT_VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

PIP = -m pip --disable-pip-version-check --no-input

# Install a lock file (2) with a Python (1), and count the packages: on one line of a terminal, else a line for every ten.
# A POSIX shell reports the status of a pipe's last command only, so pip's failure is passed on in a file.
failed = $(dir $(1)).install-failed
install = rm -f $(failed); total=$$(grep -c '^[A-Za-z0-9].*==' $(2)); number=0; \
	{ $(1) $(PIP) install --progress-bar off --require-hashes -r $(2) || : >$(failed); } | \
	while read -r verb name rest; do case "$$verb" in \
		(Collecting|Processing) number=$$((number + 1)); name=$$(basename "$${name%%[=<>!~]*}"); \
			if [ -t 1 ]; then printf '\r  %3d of %d: %-50.50s' $$number $$total "$$name"; \
			elif [ $$((number % 10)) = 0 ]; then echo "  $$number of $$total: $$name"; fi ;; \
		(Installing) [ ! -t 1 ] || printf '\r%-70s\r' ''; \
			echo "  $$number packages are downloaded; installing them takes some seconds more." ;; \
		esac; \
	done; [ ! -f $(failed) ]

# .busy holds the number of the process that installs. While that process lives, make in another terminal waits for it. If
# it is dead, it was interrupted, and the environment is made again. An environment made by hand is kept and added to.
busy = [ -f $(BUSY) ] && kill -0 "$$(cat $(BUSY))" 2>/dev/null
wait = if $(busy); then \
	echo "Process $$(cat $(BUSY)) is setting up $(VENV); waiting. If that is no make: rm $(BUSY)"; fi; \
	while $(busy); do sleep 1; done

$(RUNTIME):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "etl_assets needs Python 3.11 or newer. '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)" >&2; \
		echo "Name another one: make $(or $(firstword $(MAKECMDGOALS)),run) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make a virtual environment: it has no venv or ensurepip module." >&2; \
		echo "On Debian and Ubuntu they come with: apt-get install python3-venv" >&2; exit 1; }
	@$(wait); if [ -z '$(filter again,$^)' ] && [ -f '$@' ]; then exit 0; fi; \
	if [ -n '$(filter again,$^)' ] || [ -f $(BUSY) ] \
		|| ! $(PY) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { [ -f $(VENV)/.place ] && [ "$$(cat $(VENV)/.place)" != "$$(pwd -P)" ]; }; then rm -rf $(VENV); fi; \
	mkdir -p $(VENV) && echo $$$$ >$(BUSY) && rm -f $(VENV)/.ready-* || exit 1; \
	if [ -x $(PY) ]; then \
		echo "Updating $(VENV) to requirements.lock: only what has changed, up to a minute."; \
	else \
		echo "Setting up $(VENV) with $$($(PYTHON) --version): once, about a minute. Downloading packages:"; \
		$(PYTHON) -m venv $(VENV) || exit 1; \
	fi; \
	{ $(call install,$(PY),requirements.lock); } && \
	$(PY) $(PIP) --quiet install --no-index --no-deps --no-build-isolation --editable . && \
	pwd -P >$(VENV)/.place && touch '$@' && rm -f $(BUSY)

$(DEV): $(RUNTIME)
	@$(wait); if [ -f '$@' ]; then exit 0; fi; \
	echo "Installing the test tools of requirements-dev.lock: once, about half a minute."; \
	echo $$$$ >$(BUSY) && \
	{ $(call install,$(PY),requirements-dev.lock); } && \
	touch '$@' && rm -f $(BUSY)

# Made again whenever it is not up to date: an interrupted installation has no mark.
$(BENCH): $(RUNTIME)
	@echo "Setting up $(BENCH_VENV) for the benchmark's peers: once, about a minute."; \
	rm -rf $(BENCH_VENV) && $(PY) -m venv $(BENCH_VENV) && \
	{ $(call install,$(BENCH_VENV)/bin/python,requirements-bench.lock); } && \
	touch '$@'

$(CLUSTER): $(RUNTIME)
	@echo "Setting up $(CLUSTER_VENV) for the tests of the lake mode and of clusters: once, about two minutes."; \
	rm -rf $(CLUSTER_VENV) && $(PY) -m venv $(CLUSTER_VENV) && \
	{ $(call install,$(CLUSTER_VENV)/bin/python,requirements-cluster.lock); } && \
	$(CLUSTER_VENV)/bin/python $(PIP) --quiet install --no-index --no-deps --no-build-isolation --editable . && \
	touch '$@'

$(AUDIT): $(RUNTIME)
	@echo "Setting up $(AUDIT_VENV) for pip-audit: once, some seconds."; \
	rm -rf $(AUDIT_VENV) && $(PY) -m venv $(AUDIT_VENV) && \
	{ $(call install,$(AUDIT_VENV)/bin/python,requirements-audit.lock); } && \
	touch '$@'

again:
