# make run    everything on this machine: broker, camera, two analyzers, about 30 seconds
# make test   the tests, with the servers that they need
# make lint   ruff and mypy

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet
LIBRARIES := libegl1 libgles2 libgl1 libglib2.0-0
SERVERS := mosquitto postgresql

.PHONY: run test lint libraries servers clean

run: $(VENV)/local.done libraries
	$(VENV)/bin/python run_local.py --duration 30

test: $(VENV)/dev.done libraries servers
	$(VENV)/bin/python -m pytest -n 2 --dist loadgroup

lint: $(VENV)/dev.done
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

libraries:
	@$(PYTHON) packages.py libraries $(LIBRARIES)

servers:
	@$(PYTHON) packages.py servers $(SERVERS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0] \
	  + ": make PYTHON=python3.12 ...") if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.done: requirements/%.txt $(VENV)/bin/python
	$(PIP) install --require-hashes -r $<
	@touch $@

clean:
	rm -rf $(VENV)
