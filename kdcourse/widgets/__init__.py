"""Les curseurs du cours : ``slider_figure`` pour leur mécanisme, puis un fichier par chapitre."""
