PYTHON ?= $(shell command -v python3 || command -v python)

.PHONY: test lint types demo bench

test lint types demo bench:
	$(PYTHON) dev.py $@ $(ARGS)
