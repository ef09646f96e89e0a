# make demo    recovers a real kernel's symbols from a dump of its memory, and compares them with its own
# make fast    style, types, unit and property tests in three minutes: no real kernels, and nothing that is slow
# make coverage  the same tests, and fails if they run fewer lines than pyproject.toml asks for
# make test    style, types, unit and property tests, and the kernels of the lab's test set; nothing may be lacking
# make test-fresh  make test three times, all guests booted anew before each: what a boot left in memory must not decide
# make renew   boots one guest of the test set anew, the one whose capture is the oldest
# make snapshots  writes tests/snapshots anew, where what users see was meant to change
# make matrix  the same claim for every kernel of the lab; make docs writes the table of it
# make containers  four real guests in every container that QEMU, libvirt and VMware have: the same table, every page
# make images  every kernel image of Debian's mirror, compared with other readings: docs/measured/images.md
# make dynamic all of /proc/kallsyms of guests that are traced: docs/measured/dynamic.md
# make boots   guests that are booted many times: docs/measured/boots.md
# make false-positives   recognisers asked where there is nothing: docs/measured/false-positives.md
# make damage  pages of real kernels' tables lost at random, many times over: docs/measured/damage.md
# make bitflips  single flipped bits in real kernels' tables, and what notices them: docs/measured/bitflips.md
# make rot     whole dumps damaged at random, a thousand more each time: docs/measured/rot.md
# make volatility  Volatility 3 on real guests, by symbol files and by the package in volatility/ (half an hour)
# make volatility-table  every plugin of Volatility for Linux on four kernels: docs/measured/volatility.md
# make dist    a wheel, an archive of the sources, and one file that runs where nothing can be installed: dist/
# make architecture  the picture of the packages, from their imports: docs/architecture.md
# make docs-site   the documents as web pages: site/
# make bench   speed beside reading the file and beside other tools; make bench-images the same for kernel images
# make bench-check       how fast import, the main command, damaged and sparse dumps are beside fixed yardsticks
# make bench-questions   how long each question to a dump of 4 GiB takes
# make bench-isf   makers of symbol files for Volatility side by side: time, symbols, and which plugins have rows
# make bench-compressed   compressed dumps of 4 GiB beside unpacking them once

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
QUICK := $(RUN) -m pytest -n auto --dist worksteal -m 'not lab and not slow'

# processes that tests start would else compile all modules anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo fast quick coverage test test-fresh renew check unit lab matrix containers docs images dynamic boots \
	false-positives damage bitflips rot snapshots architecture docs-site volatility volatility-ready volatility-table \
	dist bench bench-images bench-check bench-compressed bench-isf bench-questions clean

demo: $(READY) lab
	@$(RUN) -m tests.real demo

fast: $(READY)
	@$(MAKE) --no-print-directory --output-sync -j2 check quick

quick: $(READY)
	$(QUICK)

snapshots: $(READY)
	KALLSIFT_RENEW_SNAPSHOTS=1 $(RUN) -m pytest tests/cli/test_snapshots.py

coverage: $(READY)
	$(QUICK) --cov --cov-report=term:skip-covered

test: check unit

check: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

unit: $(READY) lab
	$(RUN) -m tests.lab set suite >/dev/null
	$(RUN) -m tests.lab kbuild >/dev/null
	KALLSIFT_COMPLETE=1 $(RUN) -m pytest -n auto --dist worksteal

test-fresh: $(READY) lab
	@for round in 1 2 3; do $(RUN) -m tests.lab forget && $(MAKE) test || exit 1; done

renew: $(READY) lab
	$(RUN) -m tests.lab renew test >/dev/null

matrix: $(READY) lab
	$(RUN) -m tests.lab set matrix >/dev/null
	KALLSIFT_LAB_SET=matrix $(RUN) -m pytest tests/real/test_identity.py tests/real/test_damage.py

containers: $(READY) lab
	KALLSIFT_LAB_CONTAINERS="amd64-7.2 amd64-5.10 arm64-6.12 amd64-7.2-4g" $(RUN) -m pytest tests/real/test_containers.py

docs: $(READY) lab
	$(RUN) -m tests.real table matrix > docs/measured/.kernels.md
	mv docs/measured/.kernels.md docs/measured/kernels.md

images: $(READY) lab
	@$(RUN) -m tests.real images > docs/measured/.images.md; status=$$?; \
	mv docs/measured/.images.md docs/measured/images.md; exit $$status

dynamic: $(READY) lab
	@$(RUN) -m tests.real dynamic > docs/measured/.dynamic.md; status=$$?; \
	mv docs/measured/.dynamic.md docs/measured/dynamic.md; exit $$status

boots: $(READY) lab
	@$(RUN) -m tests.real boots > docs/measured/.boots.md; status=$$?; \
	mv docs/measured/.boots.md docs/measured/boots.md; exit $$status

false-positives: $(READY) lab
	@$(RUN) -m tests.lab set matrix >/dev/null
	@$(RUN) -m tests.real false-positives > docs/measured/.false-positives.md; status=$$?; \
	mv docs/measured/.false-positives.md docs/measured/false-positives.md; exit $$status

damage: $(READY) lab
	@$(RUN) -m tests.real damage > docs/measured/.damage.md; status=$$?; \
	for filler in noise foreign own; do \
		$(RUN) -m tests.real damage --filler $$filler --trials 5 --percent 2 10 >> docs/measured/.damage.md || status=1; \
	done; mv docs/measured/.damage.md docs/measured/damage.md; exit $$status

bitflips: $(READY) lab
	@$(RUN) -m tests.real bitflips > docs/measured/.bitflips.md
	@mv docs/measured/.bitflips.md docs/measured/bitflips.md

rot: $(READY) lab
	@$(RUN) -m tests.real rot --trials 1000 --resume

architecture: $(READY)
	@$(RUN) -m tests.architecture > docs/.architecture.md && mv docs/.architecture.md docs/architecture.md

docs-site: $(READY)
	$(PYTHON) -m venv $(VENV)/site
	$(VENV)/site/bin/python -m pip install --quiet --disable-pip-version-check -e '.[site]'
	$(VENV)/site/bin/python -m mkdocs build --strict --quiet

volatility: volatility-ready
	$(RUN) -m tests.lab guest amd64-5.10 amd64-6.1 amd64-6.12-la57 amd64-7.2 >/dev/null
	cd volatility && ../$(VENV)/volatility/bin/python -m pytest

volatility-table: volatility-ready
	@PYTHONPATH=. $(VENV)/volatility/bin/python volatility/tests/plugin_table.py > docs/measured/.volatility.md; \
	status=$$?; mv docs/measured/.volatility.md docs/measured/volatility.md; exit $$status

volatility-ready: $(READY) lab
	$(RUN) -m tests.lab set investigated >/dev/null
	$(PYTHON) -m venv $(VENV)/volatility
	$(VENV)/volatility/bin/python -m pip install --quiet --disable-pip-version-check -e '.[images]' -e './volatility[test]'

dist: $(READY)
	rm -rf dist
	$(PYTHON) -m venv $(VENV)/tools
	$(VENV)/tools/bin/python -m pip install --quiet --disable-pip-version-check build shiv
	$(VENV)/tools/bin/python -m build --outdir dist .
	$(VENV)/tools/bin/python -m shiv --quiet --console-script kallsift --python '/usr/bin/env python3' \
		--output-file dist/kallsift "$$(ls dist/*.whl)[images]"

bench: $(READY) lab
	@folders=$$($(RUN) -m tests.lab guest amd64-7.2 amd64-7.2-4g) && \
	$(RUN) -m bench --dump $$(printf '%s/memory.elf ' $$folders) --truth $$(printf '%s/truth/kallsyms ' $$folders)

bench-images: $(READY) lab
	@$(RUN) -m bench.images $$($(RUN) -m tests.lab guest amd64-5.10 amd64-6.1 amd64-6.12 amd64-7.2)

bench-compressed: $(READY) lab
	@folder=$$($(RUN) -m tests.lab guest amd64-7.2-4g) && \
	$(RUN) -m bench.compressed $$folder/memory.elf --truth $$folder/truth/kallsyms

bench-check: $(READY) lab
	@$(RUN) -m bench.check $$($(RUN) -m tests.lab guest amd64-7.2)

bench-isf: $(READY) lab
	@$(RUN) -m bench.isf $$($(RUN) -m tests.lab guest amd64-7.2 amd64-5.10)

bench-questions: $(READY) lab
	@$(RUN) -m bench.questions $$($(RUN) -m tests.lab guest amd64-7.2-4g)

lab:
	@tests/lab/setup.sh

$(READY): pyproject.toml
	@tests/lab/setup.sh python
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
