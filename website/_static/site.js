// La recherche : le mot demandé perd ses accents comme l'index a perdu les siens, et les chapitres passent d'abord.
document.addEventListener('DOMContentLoaded', () => {
  if (typeof Stemmer === 'undefined') return;
  const Accented = Stemmer;
  window.Stemmer = function () {
    const stemmer = new Accented();
    this.stemWord = (word) => stemmer.stemWord(word).normalize('NFD').replace(/\p{M}/gu, '');
  };
  Scorer.score = ([name, , , , score]) => score + (name.startsWith('10_') ? 100 : 0);
});

// Le papier est blanc et ne se déplie pas : on y imprime en clair, et aussi ce qui est plié.
let unfolded = [], theme;
addEventListener('beforeprint', () => {
  unfolded = [...document.querySelectorAll('details:not([open])')];
  for (const fold of unfolded) fold.open = true;
  theme = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = 'light';
});
addEventListener('afterprint', () => {
  for (const fold of unfolded) fold.open = false;
  document.documentElement.dataset.theme = theme;
});
