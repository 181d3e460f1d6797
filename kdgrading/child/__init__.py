"""Ce qui entre dans le bac à sable : le processus chaud et ses tâches. Ni référence, ni cas caché, ni note."""
