# make run    everything on this machine: broker, camera, two analyzers, about 30 seconds
# make test   the tests, with the servers that they need; the first time it builds a control plane (ten minutes)
# make test-fast   the same without that control plane, for the inner loop
# make fuzz   100,000 malformed and hostile MQTT messages to an analyzer and a camera that work meanwhile
# make e2e    the whole farm on real nodes with containers, under faults (root, Linux; E2E_MINUTES=90: all of them)
# make soak   two hours of it, with a fault every five minutes: no frame is lost, and nothing grows (SOAK_MINUTES, SOAK_FAULT_MINUTES)
# make bare   README's commands, typed on a bare Debian 12 (root, Linux; BARE=all: make test in full, too, about an hour)
# make arm    the programs on emulated ARM processors (root, Linux; ARM=short: a part of it, in some five minutes)
# make dev    the Python packages and libraries of the tests alone, for a part of them: CONTRIBUTING.md
# make lint   ruff, mypy, and the rules of who may import whom

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet
LIBRARIES := libegl1 libgles2 libgl1 libglib2.0-0
SERVERS := mosquitto postgresql prometheus prometheus-node-exporter chromium chromium-driver fonts-dejavu-core
CONTAINERS := docker.io iptables mmdebstrap docker-compose docker-registry
MACHINES := mmdebstrap systemd-container
NODES := containerd runc containernetworking-plugins iproute2 faketime
E2E_MINUTES ?= 15
SOAK_MINUTES ?= 120
FUZZ_MESSAGES ?= 100000
ARM ?= all
BARE ?= short

.PHONY: run test test-fast fuzz e2e soak bare arm dev lint libraries servers containers nodes machines go cluster kustomize rtsp s3 services clean

# libraries come first: where sudo asks for a password, that is said before anything takes minutes
run: libraries $(VENV)/local.done $(VENV)/mediapipe.done
	$(VENV)/bin/python run_local.py --duration 30

test: libraries servers $(VENV)/dev.done $(VENV)/mediapipe.done cluster kustomize rtsp s3
	$(VENV)/bin/python -m pytest -n 4 --dist loadgroup --durations=10

test-fast: libraries servers $(VENV)/dev.done $(VENV)/mediapipe.done kustomize rtsp s3
	@echo "leaving out tests/cluster, the real control plane with KEDA: make test has it"
	$(VENV)/bin/python -m pytest -n 4 --dist loadgroup --ignore=tests/cluster

# FUZZ_SEED=... sends the same messages again
fuzz: $(VENV)/dev.done $(VENV)/mediapipe.done libraries servers
	FUZZ_MESSAGES=$(FUZZ_MESSAGES) $(VENV)/bin/python -m pytest -v -s tests/unit/wire/test_fuzzing.py

# e2e-report/index.html shows what happened, also when it fails
e2e: $(VENV)/dev.done libraries servers containers nodes machines cluster kustomize services
	E2E_MINUTES=$(E2E_MINUTES) $(VENV)/bin/python -m pytest -v --durations=0 tests/e2e

# e2e-report/soak.md, .csv and .png say what each program used; E2E_SEED=... draws the same faults again
soak: $(VENV)/dev.done libraries servers containers nodes cluster kustomize services
	SOAK_MINUTES=$(SOAK_MINUTES) $(VENV)/bin/python -m pytest -v -s tests/e2e/test_soak.py

bare: $(VENV)/dev.done libraries machines
	BARE=$(BARE) $(VENV)/bin/python -m pytest -n 2 --dist loadfile -v --durations=0 tests/bare

# ARM=short: what the gate has of it
arm: $(VENV)/dev.done libraries servers containers
	ARM=$(ARM) $(VENV)/bin/python -m pytest -n 2 --dist worksteal -v --durations=0 tests/arm

dev: libraries $(VENV)/dev.done $(VENV)/mediapipe.done

lint: $(VENV)/dev.done
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

libraries: | $(VENV)/bin/pip
	@$(PYTHON) packages.py libraries $(LIBRARIES)

servers:
	@$(PYTHON) packages.py servers $(SERVERS)

# not part of make test: nobody's own Docker is to be replaced; without one the tests that need it are skipped
containers:
	@$(PYTHON) packages.py containers $(CONTAINERS)

nodes:
	@$(PYTHON) packages.py nodes $(NODES)

machines:
	@$(PYTHON) packages.py machines $(MACHINES)

go: $(VENV)/dev.done
	-@$(VENV)/bin/python packages.py go

# without these the tests that need them are skipped with the reason, and fail in CI
cluster: go
	-@$(VENV)/bin/python tests/cluster/binaries.py

kustomize: go
	-@$(VENV)/bin/python tests/support/kustomize_tool.py

rtsp: go
	-@$(VENV)/bin/python tests/support/rtsp_server.py

s3: go
	-@$(VENV)/bin/python tests/support/s3_server.py

services: go
	-@$(VENV)/bin/python tests/support/node_services.py

# pip comes last: where it is, the environment is whole
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 10) <= sys.version_info[:2] <= (3, 13) else \
	  "Python 3.10 to 3.13 is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) makes no virtual environments. Type: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.done: requirements/%.txt | $(VENV)/bin/pip
	@echo "installing the packages of $< into $(VENV): this takes a minute or more"
	@$(PIP) install --require-hashes -r $<
	@touch $@

# for Raspberry Pi 3 and 4, Jetson Nano and TX2; elsewhere it does nothing
$(VENV)/mediapipe.done: requirements/analyzer-armv8.0.txt | $(VENV)/bin/pip
	@$(VENV)/bin/python packages.py mediapipe
	@touch $@

clean:
	rm -rf $(VENV)
