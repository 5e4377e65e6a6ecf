PYTHON ?= $(shell command -v python3 || command -v python)

.PHONY: test lint types oldest perturb demo bench

test lint types oldest perturb demo bench:
	$(PYTHON) dev.py $@ $(ARGS)
