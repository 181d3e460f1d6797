"""10.6 : décomposer un tenseur (``decompositions``), une couche (``tensor_train``, ``tucker``), en rendre compte."""
