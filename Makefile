# `make lab` installe ce qui manque, puis ouvre JupyterLab.
.DEFAULT_GOAL := help
.PHONY: help lab clean
.PHONY: test check notebooks site colab bench screenshot release format # [auteur]

VENV := .venv
BIN := $(VENV)/bin
# Ce qu'une machine règle pour ses autres Python n'a rien à faire dans .venv.
export PIP_USER := 0
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT
# Une installation se refait quand le contenu de ces fichiers change, ou la place du dossier ; leurs dates n'en disent rien.
LAB := $(VENV)/.lab-$(shell { pwd; cat pyproject.toml tools/jupyterlab_overrides.json; } | cksum | cut -d ' ' -f 1)
TEST := $(subst .lab-,.test-,$(LAB))-$(shell cksum < kdgrading/pyproject.toml | cut -d ' ' -f 1) # [auteur]
# L'index que documente pytorch.org pour qui n'a pas de GPU NVIDIA : trois gigaoctets de moins à télécharger.
CPU_INDEX := https://download.pytorch.org/whl/cpu
NVIDIA := /proc/driver/nvidia/version
TORCH ?= auto
SUITABLE := 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
# [auteur]
# Plus longue que la plus lente des cellules sur une machine chargée.
CELL_TIMEOUT := 300
# Un processus par cœur, un fil chacun, un fichier de tests à la fois : deux fois plus vite que deux fils dans un seul.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile
# [/auteur]

help:
	@echo "make lab        ouvre JupyterLab sur les notebooks (make lab ARGS=\"--port=9000\" passe des options)"
	@echo "make test       tests, notebooks et navigateur" # [auteur]
	@echo "make notebooks  reconstruit notebooks/ depuis sources/ (make notebooks ONLY=10_01 pour un seul)" # [auteur]
	@echo "make check      style, types, et notebooks conformes à leurs sources" # [auteur]
	@echo "make site       le cours en pages web, dans build/site/ (make site ONLY=10_01 pour un essai)" # [auteur]
	@echo "make colab      les notebooks, exécutés comme Colab le ferait (make colab ONLY=10_01 pour un seul)" # [auteur]
	@echo "make bench      mesures de vitesse, dans benchmarks/results/" # [auteur]
	@echo "make screenshot refait l'image animée du README, dans le vrai JupyterLab" # [auteur]
	@echo "make release    fabrique ce que reçoivent les étudiants, sans solution, dans release/" # [auteur]
	@echo "make clean      efface les environnements installés par make"

# Sans écran, ouvrir un navigateur de texte prendrait le terminal ; l'adresse imprimée suffit.
lab: venv
	@$(MAKE) --no-print-directory $(LAB)
	@mkdir -p notebooks/perso exercises/perso
	@if [ -z "$$DISPLAY$$WAYLAND_DISPLAY" ] && [ "$$(uname)" != Darwin ]; then browser=--no-browser; fi; \
	if [ "$$(id -u)" = 0 ]; then root=--allow-root; fi; \
	echo "JupyterLab démarre ; son adresse s'affiche ci-dessous (http://localhost:…). Ctrl+C l'arrête."; \
	exec $(BIN)/python -m jupyterlab --ServerApp.root_dir=. $$browser $$root $(ARGS)

# [auteur]
test: installed
	$(PYTEST) tests
	$(PYTEST) --nbval-lax --nbval-current-env --nbval-cell-timeout=$(CELL_TIMEOUT) notebooks/*.ipynb

check: installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python tools/build_notebooks.py --check

notebooks: installed
	$(BIN)/python tools/build_notebooks.py $(ONLY)

site: installed
	$(BIN)/python tools/build_site.py $(ONLY)

colab: installed
	$(BIN)/python tools/run_colab.py $(ONLY)

bench: site
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	$(BIN)/python -m benchmarks vectorised
	$(BIN)/python -m benchmarks losses
	$(BIN)/python -m benchmarks grading
	$(BIN)/python -m benchmarks widgets
	$(BIN)/python -m benchmarks notebooks
	$(BIN)/python -m benchmarks site

screenshot: installed
	$(BIN)/python tools/record_widgets.py

release: site
	$(BIN)/python tools/make_release.py

format: installed
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# [/auteur]
clean:
	rm -rf $(VENV)
	rm -rf .venv-colab # [auteur]

$(LAB):
	@$(MAKE) --no-print-directory torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[lab]"
	@$(MAKE) --no-print-directory overrides
	@rm -f $(VENV)/.lab-*; touch $@

# [auteur]
.PHONY: installed
installed: venv
	@$(MAKE) --no-print-directory $(TEST)

$(TEST):
	@$(MAKE) --no-print-directory torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[lab,test,grading,site]" -e ./kdgrading
	@$(MAKE) --no-print-directory overrides
	@rm -f $(VENV)/.lab-* $(VENV)/.test-*; touch $@ $(LAB)

# [/auteur]
# Sans GPU NVIDIA, le torch pour processeur, si son index répond vite, et lui seul (--isolated) : mêlé à un autre, torchvision
# ne s'importerait pas. Sinon, ou par TORCH=default, celui que pip choisit.
.PHONY: torch
torch:
	@if [ "$(TORCH)" != default ] && [ "$$(uname)" = Linux ] && [ ! -e $(NVIDIA) ] && ! command -v nvidia-smi >/dev/null \
	  && ! $(BIN)/python -c "import torch" >/dev/null 2>&1; then \
	  echo "Pas de GPU NVIDIA : torch pour processeur (make lab TORCH=default prend l'autre)."; \
	  { PIP_CONFIG_FILE=/dev/null $(BIN)/python -m pip --isolated install --quiet --timeout 10 --retries 0 \
	      --index-url $(CPU_INDEX) "torch>=2.11" torchvision && $(BIN)/python -c "import torchvision"; } >/dev/null 2>&1 || { \
	    $(BIN)/python -m pip uninstall --quiet --yes torch torchvision >/dev/null 2>&1; \
	    echo "Cet index ne répond pas : pip prend le torch de votre index habituel, bibliothèques GPU comprises."; }; fi

.PHONY: overrides
overrides:
	@mkdir -p $(VENV)/share/jupyter/lab/settings
	@cp tools/jupyterlab_overrides.json $(VENV)/share/jupyter/lab/settings/overrides.json

# Vérifié à chaque fois : un Python désinstallé, ou un dossier en lecture seule, se dit avant que rien ne commence.
# Sinon, le premier Python qui convient : 3.11 à 3.13, avec venv et pip.
.PHONY: venv
venv:
	@if [ ! -w . ]; then echo "Ce dossier est en lecture seule : copiez-le chez vous (cp -r), puis relancez make lab." >&2; exit 1; fi; \
	if $(BIN)/python -c "import sys" >/dev/null 2>&1; then \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade >/dev/null 2>&1 || { \
	    echo "$(VENV) n'a pas pip, et ensurepip ne le lui donne pas. Installez-l'y, ou effacez $(VENV)." >&2; exit 1; }; \
	  $(BIN)/python -c $(SUITABLE) >/dev/null 2>&1 || { \
	    echo "Le Python de $(VENV) ne convient pas : 3.11, 3.12 ou 3.13 attendu. Effacez $(VENV), puis relancez." >&2; exit 1; }; \
	  exit 0; fi; \
	if [ -n "$(PYTHON)" ] && ! "$(PYTHON)" -c $(SUITABLE) >/dev/null 2>&1; then \
	  echo "PYTHON=$(PYTHON) refusé : un Python 3.11, 3.12 ou 3.13 avec venv est attendu." >&2; exit 1; fi; \
	if [ -e $(VENV) ] && { [ ! -f $(VENV)/pyvenv.cfg ] || [ -d $(VENV)/Scripts ]; }; then \
	  echo "$(VENV) existe, et n'est pas un environnement de ce système : déplacez-le, puis relancez." >&2; exit 1; fi; \
	if [ -e $(VENV) ]; then echo "Le Python de $(VENV) n'est plus là : l'environnement est refait."; fi; \
	for python in "$(PYTHON)" python3 python3.13 python3.12 python3.11 python; do \
	  "$$python" -c $(SUITABLE) >/dev/null 2>&1 \
	    && echo "Environnement $(VENV) créé avec $$("$$python" --version) ; l'installation prend quelques minutes." \
	    && "$$python" -m venv --clear $(VENV) && exit 0; \
	done; \
	echo "Aucun Python 3.11, 3.12 ou 3.13 avec venv n'a été trouvé. Installez-en un (Debian, Ubuntu : apt install" \
	  "python3-venv ; autres : https://www.python.org/downloads/), ou donnez le vôtre : make lab PYTHON=chemin." >&2; exit 1
