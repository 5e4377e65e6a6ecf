PYTHON ?= $(shell command -v python3 || command -v python)

.PHONY: test lint demo bench

test lint demo bench:
	$(PYTHON) dev.py $@ $(ARGS)
