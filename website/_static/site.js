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

// Le papier ne se déplie pas : on y imprime aussi ce qui est plié.
let unfolded = [];
addEventListener('beforeprint', () => {
  unfolded = [...document.querySelectorAll('details:not([open])')];
  for (const fold of unfolded) fold.open = true;
});
addEventListener('afterprint', () => { for (const fold of unfolded) fold.open = false; });
