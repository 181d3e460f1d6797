"""Les figures du cours : ``common`` pour ce qu'elles partagent, puis un fichier par chapitre."""
