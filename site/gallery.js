// The film page and the gallery. Both are complete without this script; it adds the next film, permalinks, the lightbox and filters. What
// it knows of the films comes from films.js and nothing is fetched, so it also works from file://.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const { films, width, height, marks } = thiscxrFilms;
  const byKey = new Map(films.map((film) => [film.key, film]));
  const status = byId("status");

  const address = (film) => `films/${encodeURIComponent(film.file || `seed-${film.key.padStart(8, "0")}.png`)}`;
  const alt = (film) => `Synthetic chest x-ray, seed ${film.key}${film.asked ? `, asked for: ${film.asked}` : ""}. Not a patient.`;
  const conditions = (film) => (film.asked ? `Asked for: ${film.asked}` : "Nothing was asked for");
  const permalink = (film) => `#seed=${film.key}`;
  // Without a hash of its own the address must lose the old one, and keep everything before it.
  const setAddress = (hash) => history.replaceState(null, "", hash || location.pathname + location.search);

  function say(element, text) {
    element.textContent = text;
    element.hidden = !text;
  }

  function setPicture(picture, film) {
    picture.src = address(film);
    picture.setAttribute("width", film.width || width);
    picture.setAttribute("height", film.height || height);
    picture.alt = alt(film);
  }

  // Fill a large view, the film page's or the lightbox.
  function fill(place, film, picture) {
    const caption = byId(`${place}-caption`), near = caption.querySelector(".near");
    setPicture(picture, film);
    caption.querySelector(".seed").textContent = `Seed ${film.key}`;
    caption.querySelector(".asked").textContent = conditions(film);
    say(caption.querySelector(".seen"), film.seen ? `A classifier predicts: ${film.seen}` : "");
    say(near, film.near ? near.dataset.words.replace("#", film.near) : film.unscreened ? near.dataset.unknown : "");
    byId(`${place}-link`).href = permalink(film);
    byId(`${place}-save`).href = address(film);
  }

  const preload = (film) => {
    if (film) new Image().src = address(film);
  };

  // Grey values [size, size] enlarged to [side, side] by the cubic convolution kernel, a = -1/2 (Keys 1981, doi:10.1109/TASSP.1981.1163711): it
  // passes through the film's own values, so it neither blurs them as browsers do nor shows their squares.
  function cubic(values, size, side) {
    const taps = Array.from({ length: side }, (_, to) => {
      const at = ((to + 0.5) * size) / side - 0.5, first = Math.floor(at), t = at - first;
      const weights = [((-t + 2) * t - 1) * t / 2, ((3 * t - 5) * t * t + 2) / 2, ((-3 * t + 4) * t + 1) * t / 2, ((t - 1) * t * t) / 2];
      return weights.map((weight, tap) => [Math.min(Math.max(first - 1 + tap, 0), size - 1), weight]);
    });
    const wide = new Float32Array(size * side), all = new Uint8ClampedArray(side * side * 4);
    for (let y = 0; y < size; y++) {
      taps.forEach((row, x) => {
        for (const [from, weight] of row) wide[y * side + x] += weight * values[y * size + from];
      });
    }
    for (let y = 0; y < side; y++) {
      const [[a, wa], [b, wb], [c, wc], [d, wd]] = taps[y];
      for (let x = 0; x < side; x++) {
        const place = 4 * (y * side + x);
        all[place] = wa * wide[a * side + x] + wb * wide[b * side + x] + wc * wide[c * side + x] + wd * wide[d * side + x];
        all[place + 1] = all[place + 2] = all[place];
        all[place + 3] = 255;
      }
    }
    return new ImageData(all, side, side);
  }

  // A canvas over a small square film, at the screen's own pixels. The picture below takes the clicks, so what is saved is the film with its
  // marks. A page from file:// may not read its pictures: there they stay as the browser enlarges them.
  function enlarge(image) {
    const canvas = document.createElement("canvas");
    canvas.className = "enlarged";
    canvas.setAttribute("aria-hidden", "true");
    canvas.hidden = true;
    image.after(canvas);
    if (location.protocol === "file:") return;
    const draw = () => {
      const size = image.naturalWidth, side = Math.round(image.clientWidth * devicePixelRatio);
      canvas.hidden = !image.complete || size === 0 || size !== image.naturalHeight || size >= side;
      if (canvas.hidden) return;
      const small = new OffscreenCanvas(size, size).getContext("2d", { willReadFrequently: true });
      small.drawImage(image, 0, 0);
      const colours = small.getImageData(0, 0, size, size).data;
      canvas.width = canvas.height = side;
      canvas.getContext("2d").putImageData(cubic(Float32Array.from({ length: size * size }, (_, place) => colours[4 * place]), size, side), 0, 0);
    };
    image.addEventListener("load", draw);
    new ResizeObserver(draw).observe(image);
  }

  function onSwipe(element, step) { // step: called with 1 to the next, -1 to the previous
    let from = null;
    element.addEventListener("touchstart", (event) => {
      from = event.touches.length === 1 ? event.touches[0] : null;
    }, { passive: true });
    element.addEventListener("touchend", (event) => {
      if (!from) return;
      const x = event.changedTouches[0].clientX - from.clientX, y = event.changedTouches[0].clientY - from.clientY;
      if (Math.abs(x) > 40 && Math.abs(x) > 2 * Math.abs(y)) step(x < 0 ? 1 : -1);
    });
  }

  const bare = (event) => !(event.ctrlKey || event.metaKey || event.altKey || event.shiftKey);

  // --- The film page: shuffled, none twice until all were seen, and a way back. ---

  function startFilm() {
    const EVERY_MS = 6000;
    const seen = [byKey.get(byId("hero-link").getAttribute("href").slice("#seed=".length))];
    let at = 0, deck = [], timer = null;

    const link = byId("hero-picture"), picture = document.createElement("button");
    picture.type = "button";
    picture.className = link.className;
    picture.title = "Another film";
    picture.append(...link.childNodes);
    link.replaceWith(picture);
    picture.id = "hero-picture";
    const image = picture.querySelector("img");
    enlarge(image);

    function draw() {
      if (deck.length === 0) {
        deck = seen.length === 1 ? films.filter((film) => film !== seen[0]) : films.slice();
        for (let last = deck.length - 1; last > 0; last--) {
          const other = Math.floor(Math.random() * (last + 1));
          [deck[last], deck[other]] = [deck[other], deck[last]];
        }
        if (deck.length > 1 && deck.at(-1) === seen[at]) deck.unshift(deck.pop()); // a new round must not begin with the film on show
      }
      return deck.pop();
    }

    function show(film) {
      status.textContent = "";
      fill("hero", film, image);
      preload(deck.at(-1));
    }

    function step(by) {
      if (films.length < 2 || at + by < 0) return;
      at += by;
      if (at === seen.length) seen.push(draw());
      show(seen[at]);
      setAddress(permalink(seen[at]));
    }

    function play(on) {
      clearInterval(timer);
      timer = on ? setInterval(() => document.hidden || step(1), EVERY_MS) : null;
      byId("play").setAttribute("aria-pressed", String(on));
      byId("hero-caption").setAttribute("aria-live", on ? "off" : "polite"); // nobody wants a film read out every six seconds
    }

    function followAddress() {
      if (!location.hash.startsWith("#seed=")) return;
      const film = byKey.get(location.hash.slice("#seed=".length));
      if (!film) {
        status.textContent = `There is no film with seed ${location.hash.slice("#seed=".length)} on this site.`;
        return;
      }
      if (film !== seen[at]) seen.splice(at === 0 && seen.length === 1 ? 0 : ++at, Infinity, film);
      show(film);
    }

    picture.addEventListener("click", () => step(1));
    onSwipe(picture, step);
    byId("another").addEventListener("click", () => step(1));
    byId("play").addEventListener("click", () => play(timer === null));
    document.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (by && bare(event)) step(by);
    });
    for (const id of ["another", "play", "hero-keys"]) byId(id).hidden = films.length < 2;
    addEventListener("hashchange", followAddress);
    if (performance.getEntriesByType("navigation")[0]?.type === "reload" && !location.hash) step(1);
    else followAddress();
  }

  // --- The gallery: the address holds what is chosen, as #finding=Effusion&page=2; the page as it was written is shown for nothing. ---

  function startGallery() {
    const grid = byId("grid"), filters = byId("filters"), lightbox = byId("lightbox"), pager = byId("pager");
    const written = Array.from(grid.children), writtenPage = Number(grid.dataset.page), pageFilms = Number(grid.dataset.pageFilms);
    const names = filters ? Array.from(filters.elements, (field) => field.name).filter(Boolean) : [];
    let list = films, page = writtenPage;
    enlarge(byId("lightbox-film"));

    const chosenHash = (chosen, more = {}) => {
      const text = new URLSearchParams({ ...chosen, ...more }).toString();
      return text && `#${text}`;
    };

    function card(film) {
      const item = written[0].cloneNode(true), picture = item.querySelector("img"), small = film.thumb && address(film).slice("films/".length);
      item.id = permalink(film).slice(1);
      item.querySelector("a").href = address(film);
      if (small) {
        picture.srcset = `thumbs/${small} 192w, ${address(film)} ${film.width || width}w`;
        picture.sizes = "10rem";
      } else {
        picture.removeAttribute("srcset");
        picture.removeAttribute("sizes");
      }
      setPicture(picture, film);
      item.querySelector(".seed").textContent = `Seed ${film.key}`;
      item.querySelector(".asked").textContent = conditions(film);
      say(item.querySelector(".seen"), film.seen ? `Predicted: ${film.seen}` : "");
      return item;
    }

    let chosen = {};

    function showPage(wanted) {
      const pages = Math.max(1, Math.ceil(list.length / pageFilms)), plain = Object.keys(chosen).length === 0;
      page = Math.min(Math.max(1, wanted), pages);
      const part = list.slice((page - 1) * pageFilms, page * pageFilms);
      grid.replaceChildren(...(plain && page === writtenPage ? written : part.map(card)));
      pager.hidden = pages === 1;
      byId("sheet-here").disabled = part.length === 0;
      pager.querySelector("span").textContent = `Page ${page} of ${pages}`;
      [1, page - 1, page + 1, pages].forEach((to, place) => {
        const link = pager.querySelectorAll("a")[place];
        if (to < 1 || to > pages || to === page) link.removeAttribute("href");
        else link.href = plain ? (to === 1 ? "gallery.html" : `gallery-${to}.html`) : chosenHash(chosen, to > 1 ? { page: to } : {});
      });
    }

    const isChosen = (film) => Object.entries(chosen).every(([name, value]) => (name === "finding" ? film.finding?.includes(value) : film[name] === value));

    function followAddress() {
      const parts = new URLSearchParams(location.hash.slice(1));
      chosen = Object.fromEntries(names.map((name) => [name, parts.get(name)]).filter(([, value]) => value));
      for (const name of names) filters.elements[name].value = chosen[name] || "";
      list = films.filter(isChosen);
      status.textContent = Object.keys(chosen).length === 0 ? "" : `${list.length} of ${films.length} films were asked for this.`;
      showPage(Number(parts.get("page")) || writtenPage * (Object.keys(chosen).length === 0) || 1);
      if (!parts.has("seed")) {
        if (lightbox.open) lightbox.close();
        return;
      }
      const film = byKey.get(parts.get("seed"));
      if (film) openBox(film, "");
      else {
        status.textContent = `There is no film with seed ${parts.get("seed")} in this gallery.`;
        status.scrollIntoView({ block: "center" });
      }
    }

    if (filters) {
      filters.hidden = false;
      filters.addEventListener("change", () => {
        setAddress(chosenHash(Object.fromEntries(names.map((name) => [name, filters.elements[name].value]).filter(([, value]) => value))));
        followAddress();
      });
      filters.addEventListener("submit", (event) => event.preventDefault());
      filters.addEventListener("reset", () => setTimeout(() => { // the fields are emptied after this event
        setAddress("");
        followAddress();
      }));
    }

    // --- The lightbox: the chosen films in their order, on all pages. ---

    const box = { film: null, before: "" }; // before: the address when it was opened

    function showInBox(film) {
      box.film = film;
      fill("lightbox", film, byId("lightbox-film"));
      setAddress(permalink(film));
      const here = list.indexOf(film);
      byId("lightbox-previous").disabled = here <= 0;
      byId("lightbox-next").disabled = here === list.length - 1;
      preload(list[here + 1]);
    }

    function walk(to) {
      const here = list.indexOf(box.film);
      const there = { first: 0, last: list.length - 1, next: here + 1, previous: here - 1 }[to];
      if (!list[there] || there === here) return;
      const focused = document.activeElement;
      showInBox(list[there]);
      // A button that has just been switched off drops the focus, and with it the keyboard.
      if (focused && focused.disabled) byId("lightbox-picture").focus();
    }

    function openBox(film, before) {
      box.before = before;
      showInBox(film);
      if (lightbox.open) return;
      lightbox.showModal();
      const next = byId("lightbox-next");
      (next.disabled ? byId("lightbox-picture") : next).focus();
    }

    lightbox.addEventListener("close", () => {
      const there = Math.floor(list.indexOf(box.film) / pageFilms) + 1;
      if (there !== page) {
        showPage(there);
        box.before = chosenHash(chosen, { page });
      }
      if (location.hash.startsWith("#seed=")) setAddress(box.before);
      byId(permalink(box.film).slice(1)).querySelector("a").focus();
    });
    lightbox.addEventListener("click", (event) => {
      if (event.target === lightbox) lightbox.close(); // the ground behind the film
    });
    byId("lightbox-picture").addEventListener("click", () => walk("next"));
    byId("lightbox-next").addEventListener("click", () => walk("next"));
    byId("lightbox-previous").addEventListener("click", () => walk("previous"));
    byId("lightbox-close").addEventListener("click", () => lightbox.close());
    byId("lightbox-link").addEventListener("click", (event) => event.preventDefault()); // the address has it already
    onSwipe(byId("lightbox-picture"), (by) => walk(by > 0 ? "next" : "previous"));

    grid.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (!link || !bare(event)) return;
      event.preventDefault();
      openBox(byKey.get(link.closest("li").id.slice("seed=".length)), location.hash);
    });

    document.addEventListener("keydown", (event) => {
      const to = { ArrowRight: "next", ArrowLeft: "previous", Home: "first", End: "last" }[event.key];
      if (!lightbox.open || !to || !bare(event)) return;
      event.preventDefault();
      walk(to);
    });

    // --- A contact sheet of what is shown, with the seeds. A page from file:// may not read its own pictures: there the one beside it stays. ---

    async function sheet() {
      const cell = 128, line = 18, gap = 4, shown = list.slice((page - 1) * pageFilms, page * pageFilms);
      const columns = Math.min(12, shown.length), rows = Math.ceil(shown.length / columns);
      const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
      canvas.width = Math.max(360, columns * (cell + gap));
      canvas.height = rows * (cell + line + gap) + line + gap;
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.fillStyle = "#fff";
      context.font = "12px sans-serif";
      context.imageSmoothingQuality = "high";
      for (const [place, film] of shown.entries()) {
        const picture = new Image(), x = (place % columns) * (cell + gap), y = Math.floor(place / columns) * (cell + line + gap);
        picture.src = address(film);
        await picture.decode();
        const scale = cell / Math.max(picture.naturalWidth, picture.naturalHeight);
        const wide = picture.naturalWidth * scale, high = picture.naturalHeight * scale;
        context.drawImage(picture, x + (cell - wide) / 2, y + (cell - high) / 2, wide, high);
        context.fillText(`seed ${film.key}`, x + 2, y + cell + 13);
      }
      context.fillText("SYNTHETIC. Not patients. Not for diagnosis.", 4, canvas.height - 7);
      const colours = context.getImageData(0, 0, canvas.width, canvas.height).data;
      const grey = Uint8Array.from({ length: colours.length / 4 }, (_, place) => colours[4 * place]);
      return thiscxrPng(grey, canvas.width, canvas.height, marks);
    }

    if (location.protocol !== "file:") {
      byId("sheet").hidden = true;
      byId("sheet-here").hidden = false;
      byId("sheet-here").addEventListener("click", async () => {
        const link = document.createElement("a");
        link.href = URL.createObjectURL(await sheet());
        link.download = "synthetic-contact-sheet.png";
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      });
    }

    addEventListener("hashchange", followAddress);
    if (location.hash) followAddress();
  }

  if (byId("hero")) startFilm();
  else startGallery();
})();
