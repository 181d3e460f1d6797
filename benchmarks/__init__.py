"""Les mesures du projet : ``python -m benchmarks NOM``. Chacune finit par une ligne JSON."""
