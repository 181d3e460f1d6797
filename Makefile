# `make lab` installe ce qui manque, puis ouvre JupyterLab.
.DEFAULT_GOAL := help
.PHONY: help lab clean
.PHONY: test check notebooks colab bench screenshot release format # [auteur]

VENV := .venv
BIN := $(VENV)/bin
SUITABLE := 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
# [auteur]
# Plus longue que la plus lente des cellules sur une machine chargée.
CELL_TIMEOUT := 300
# [/auteur]

help:
	@echo "make lab        ouvre JupyterLab sur les notebooks (make lab ARGS=\"--port=9000\" passe des options)"
	@echo "make test       tests, notebooks et navigateur" # [auteur]
	@echo "make notebooks  reconstruit notebooks/ depuis sources/ (make notebooks ONLY=10_01 pour un seul)" # [auteur]
	@echo "make check      style, types, et notebooks conformes à leurs sources" # [auteur]
	@echo "make colab      les notebooks, exécutés comme Colab le ferait (make colab ONLY=10_01 pour un seul)" # [auteur]
	@echo "make bench      mesures de vitesse, dans benchmarks/results/" # [auteur]
	@echo "make screenshot refait l'image animée du README, dans le vrai JupyterLab" # [auteur]
	@echo "make release    fabrique ce que reçoivent les étudiants, sans solution, dans release/" # [auteur]
	@echo "make clean      efface les environnements installés par make"

# Sans écran, ouvrir un navigateur de texte prendrait le terminal ; l'adresse imprimée suffit.
lab: $(VENV)/.lab
	@mkdir -p notebooks/perso exercises/perso
	@if [ -z "$$DISPLAY$$WAYLAND_DISPLAY" ] && [ "$$(uname)" != Darwin ]; then browser=--no-browser; fi; \
	if [ "$$(id -u)" = 0 ]; then root=--allow-root; fi; \
	echo "JupyterLab démarre ; son adresse s'affiche ci-dessous (http://localhost:…). Ctrl+C l'arrête."; \
	exec $(BIN)/jupyter lab --ServerApp.root_dir=. $$browser $$root $(ARGS)

# [auteur]
test: $(VENV)/.test
	$(BIN)/python -m pytest tests
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=$(CELL_TIMEOUT) notebooks/*.ipynb

check: $(VENV)/.test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python tools/build_notebooks.py --check

notebooks: $(VENV)/.test
	$(BIN)/python tools/build_notebooks.py $(ONLY)

colab: $(VENV)/.test
	$(BIN)/python tools/run_colab.py $(ONLY)

bench: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	$(BIN)/python -m benchmarks vectorised
	$(BIN)/python -m benchmarks losses
	$(BIN)/python -m benchmarks grading
	$(BIN)/python -m benchmarks widgets
	$(BIN)/python -m benchmarks notebooks

screenshot: $(VENV)/.test
	$(BIN)/python tools/record_widgets.py

release: $(VENV)/.test
	$(BIN)/python tools/make_release.py

format: $(VENV)/.test
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# [/auteur]
clean:
	rm -rf $(VENV)
	rm -rf .venv-colab # [auteur]

# Un environnement n'est refait que si pyproject.toml change : ensuite, plus rien ne demande le réseau.
$(VENV)/.lab: pyproject.toml tools/jupyterlab_overrides.json | $(VENV)/.cree
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[lab]"
	@$(MAKE) --no-print-directory overrides
	@touch $@

# [auteur]
$(VENV)/.test: pyproject.toml kdgrading/pyproject.toml tools/jupyterlab_overrides.json | $(VENV)/.cree
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[lab,test,grading]" -e ./kdgrading
	@$(MAKE) --no-print-directory overrides
	@touch $@ $(VENV)/.lab
# [/auteur]

.PHONY: overrides
overrides:
	@mkdir -p $(VENV)/share/jupyter/lab/settings
	@cp tools/jupyterlab_overrides.json $(VENV)/share/jupyter/lab/settings/overrides.json

# Le premier Python qui convient : 3.11 à 3.13, avec venv et pip. Le témoin .cree n'apparaît qu'une fois tout en place :
# une création interrompue se refait.
$(VENV)/.cree:
	@if [ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1; then touch $@; exit 0; fi; \
	if [ -n "$(PYTHON)" ] && ! "$(PYTHON)" -c $(SUITABLE) >/dev/null 2>&1; then \
	  echo "PYTHON=$(PYTHON) refusé : un Python 3.11, 3.12 ou 3.13 avec venv est attendu." >&2; exit 1; fi; \
	for python in "$(PYTHON)" python3 python3.13 python3.12 python3.11 python; do \
	  "$$python" -c $(SUITABLE) >/dev/null 2>&1 \
	    && echo "Environnement $(VENV) créé avec $$("$$python" --version) ; l'installation prend quelques minutes." \
	    && "$$python" -m venv --clear $(VENV) && touch $@ && exit 0; \
	done; \
	echo "Aucun Python 3.11, 3.12 ou 3.13 avec venv n'a été trouvé. Installez-en un (Debian, Ubuntu : apt install" \
	  "python3-venv ; autres : https://www.python.org/downloads/), ou donnez le vôtre : make lab PYTHON=chemin." >&2; exit 1
