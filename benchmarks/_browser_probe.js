// Injecté avant JupyterLab : note quand une touche arrive, quand un message part ou revient, quand l'image est peinte.
// Toutes les heures sont en millisecondes, celles de performance.now().
window.probe = (() => {
  const PICTURE_BYTES = 3000; // un message qui porte une image est plus gros que tous les autres
  const keys = [], sends = [], receipts = [], changes = [];
  let waiting = [];

  window.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      this.addEventListener('message', ({data}) => {
        if ((data.byteLength ?? data.length) > PICTURE_BYTES) receipts.push(performance.now());
      });
    }
    send(data) {
      sends.push(performance.now());
      super.send(data);
    }
  };
  addEventListener('keydown', event => keys.push(event.timeStamp), true);

  // « load » ne remonte pas, mais le document peut le capturer : une <img> dont la source change, ou une nouvelle <img>, passe ici.
  document.addEventListener('load', ({target}) => {
    if (!(target instanceof HTMLImageElement)) return;
    const change = {loaded: performance.now(), bitmap: createImageBitmap(target)};
    requestAnimationFrame(() => {
      // La première tâche après l'image d'animation : la page vient d'être peinte.
      const {port1, port2} = new MessageChannel();
      port1.onmessage = () => {
        change.painted = performance.now();
        changes.push(change);
        waiting = waiting.filter(({count, resolve}) => changes.length < count || void resolve());
      };
      port2.postMessage(0);
    });
  }, true);

  async function digest(bitmap) {
    const image = await bitmap, canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext('2d', {willReadFrequently: true});
    context.drawImage(image, 0, 0);
    const hash = await crypto.subtle.digest('SHA-1', context.getImageData(0, 0, image.width, image.height).data);
    return Array.from(new Uint8Array(hash, 0, 8), byte => byte.toString(16).padStart(2, '0')).join('');
  }

  return {
    reset() { for (const list of [keys, sends, receipts, changes]) list.length = 0; },
    // Rend quand « count » images ont été peintes, ou après « limit » ms.
    painted: (count, limit) => Promise.race([
      new Promise(resolve => changes.length >= count ? resolve() : waiting.push({count, resolve})),
      new Promise(resolve => setTimeout(resolve, limit)),
    ]),
    // Ce qui s'est passé depuis reset ; l'empreinte des pixels se calcule ici, une fois le chronomètre arrêté.
    async report() {
      const seen = await Promise.all(changes.map(async ({loaded, painted, bitmap}) =>
        ({loaded, painted, digest: await digest(bitmap)})));
      return {keys: [...keys], sends: [...sends], receipts: [...receipts], changes: seen};
    },
  };
})();
