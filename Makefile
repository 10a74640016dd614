# make run    everything on this machine: broker, camera, two analyzers, about 30 seconds
# make test   the tests, with the servers that they need; the first time it builds a control plane (ten minutes)
# make test-fast   the same without that control plane, for the inner loop
# make fuzz   100,000 malformed and hostile MQTT messages to an analyzer and a camera that work meanwhile
# make e2e    the whole farm on real nodes with containers, under faults (root, Linux; E2E_MINUTES=60: all of them)
# make bare   README's steps for broker, analyzer and camera, typed on a bare Debian 12 (root, Linux)
# make arm    the programs on emulated ARM processors (root, Linux; ARM=short: a part of it, in some five minutes)
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
FUZZ_MESSAGES ?= 100000
ARM ?= all

.PHONY: run test test-fast fuzz e2e bare arm lint libraries servers containers nodes machines go cluster kustomize rtsp s3 services clean

run: $(VENV)/local.done $(VENV)/mediapipe.done libraries
	$(VENV)/bin/python run_local.py --duration 30

test: $(VENV)/dev.done $(VENV)/mediapipe.done libraries servers cluster kustomize rtsp s3
	$(VENV)/bin/python -m pytest -n 3 --dist loadgroup

test-fast: $(VENV)/dev.done $(VENV)/mediapipe.done libraries servers kustomize rtsp s3
	@echo "leaving out tests/cluster, the real control plane with KEDA: make test has it"
	$(VENV)/bin/python -m pytest -n 3 --dist loadgroup --ignore=tests/cluster

# FUZZ_SEED=... sends the same messages again
fuzz: $(VENV)/dev.done $(VENV)/mediapipe.done libraries servers
	FUZZ_MESSAGES=$(FUZZ_MESSAGES) $(VENV)/bin/python -m pytest -v -s tests/unit/wire/test_fuzzing.py

# e2e-report/index.html shows what happened, also when it fails
e2e: $(VENV)/dev.done libraries servers containers nodes cluster kustomize services
	E2E_MINUTES=$(E2E_MINUTES) $(VENV)/bin/python -m pytest -v --durations=0 tests/e2e

bare: $(VENV)/dev.done libraries machines
	BARE=1 $(VENV)/bin/python -m pytest -v --durations=0 tests/bare

# ARM=short: what the gate has of it
arm: $(VENV)/dev.done libraries servers containers
	ARM=$(ARM) $(VENV)/bin/python -m pytest -n 2 --dist worksteal -v --durations=0 tests/arm

lint: $(VENV)/dev.done
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

libraries:
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

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0] \
	  + ": make PYTHON=python3.12 ...") if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.done: requirements/%.txt $(VENV)/bin/python
	$(PIP) install --require-hashes -r $<
	@touch $@

# for Raspberry Pi 3 and 4, Jetson Nano and TX2; elsewhere it does nothing
$(VENV)/mediapipe.done: requirements/analyzer-armv8.0.txt $(VENV)/bin/python
	@$(VENV)/bin/python packages.py mediapipe
	@touch $@

clean:
	rm -rf $(VENV)
