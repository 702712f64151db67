// The gallery's only script. The page is whole without it; this adds the next film, the lightbox, permalinks and filters.
// What it knows it reads from the grid in the page, never from the network, so it also works from file://.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const grid = byId("grid");
  const films = Array.from(grid.children);
  const lightbox = byId("lightbox");
  const filters = byId("filters");
  const status = byId("status");

  const shownFilms = () => films.filter((film) => !film.hidden);
  const permalink = (film) => "#" + film.id;
  // Without a history of its own the address must lose its #seed, and keep everything before it.
  const setAddress = (hash) => history.replaceState(null, "", hash || location.pathname + location.search);

  // Fill a large view (the first page's film or the lightbox) from a film of the grid.
  function fill(film, picture, caption, link, save) {
    const small = film.querySelector("img");
    picture.src = small.getAttribute("src");
    picture.setAttribute("width", small.getAttribute("width"));
    picture.setAttribute("height", small.getAttribute("height"));
    picture.alt = small.alt;
    for (const part of ["seed", "asked"]) {
      caption.querySelector("." + part).textContent = film.querySelector("." + part).textContent;
    }
    link.href = permalink(film);
    save.href = small.getAttribute("src");
  }

  function preload(film) {
    new Image().src = film.querySelector("img").getAttribute("src");
  }

  // --- The large film of the first page: shuffled, none twice until all were seen, and a way back. ---

  const hero = { picture: null, seen: [], at: -1, deck: [] };

  function draw() {
    const shown = shownFilms();
    if (hero.deck.length === 0) {
      hero.deck = shown.slice();
      for (let last = hero.deck.length - 1; last > 0; last--) {
        const other = Math.floor(Math.random() * (last + 1));
        [hero.deck[last], hero.deck[other]] = [hero.deck[other], hero.deck[last]];
      }
      if (hero.deck.length > 1 && hero.deck[hero.deck.length - 1] === hero.seen[hero.at]) {
        hero.deck.unshift(hero.deck.pop()); // a new round must not begin with the film on show
      }
    }
    return hero.deck.pop();
  }

  function showHero(step) {
    if (step < 0 && hero.at <= 0) return;
    hero.at += step;
    if (hero.at === hero.seen.length) {
      const film = draw();
      if (!film) {
        hero.at -= step;
        return;
      }
      hero.seen.push(film);
    }
    fill(hero.seen[hero.at], hero.picture.querySelector("img"), byId("hero-caption"), byId("hero-link"), byId("hero-save"));
    if (hero.deck.length > 0) preload(hero.deck[hero.deck.length - 1]);
  }

  function startHero() {
    const link = byId("hero-picture");
    hero.picture = document.createElement("button");
    hero.picture.type = "button";
    hero.picture.className = link.className;
    hero.picture.title = "Another film";
    hero.picture.append(...link.childNodes);
    link.replaceWith(hero.picture);
    hero.picture.id = "hero-picture";
    hero.picture.addEventListener("click", () => showHero(1));
    byId("another").addEventListener("click", () => showHero(1));
    byId("another").hidden = films.length < 2;
    byId("hero-keys").hidden = films.length < 2;
    showHero(1);
  }

  // --- The lightbox: the grid's films in the grid's order, filtered ones left out. ---

  const box = { film: null, opener: null };

  function showInBox(film) {
    box.film = film;
    fill(film, byId("lightbox-film"), byId("lightbox-caption"), byId("lightbox-link"), byId("lightbox-save"));
    setAddress(permalink(film));
    const shown = shownFilms();
    const here = shown.indexOf(film);
    byId("lightbox-previous").disabled = here <= 0;
    byId("lightbox-next").disabled = here === shown.length - 1;
    if (shown[here + 1]) preload(shown[here + 1]);
  }

  function walk(to) {
    const shown = shownFilms();
    const here = shown.indexOf(box.film);
    const there = { first: 0, last: shown.length - 1, next: here + 1, previous: here - 1 }[to];
    if (!shown[there] || there === here) return;
    const focused = document.activeElement;
    showInBox(shown[there]);
    // A button that has just been switched off drops the focus, and with it the keyboard.
    if (focused && focused.disabled) byId("lightbox-picture").focus();
  }

  function openBox(film, opener) {
    box.opener = opener;
    showInBox(film);
    if (!lightbox.open) lightbox.showModal();
  }

  lightbox.addEventListener("close", () => {
    setAddress("");
    (box.opener || box.film.querySelector("a")).focus();
  });
  lightbox.addEventListener("click", (event) => {
    if (event.target === lightbox) lightbox.close(); // the ground behind the film
  });
  byId("lightbox-picture").addEventListener("click", () => walk("next"));
  byId("lightbox-next").addEventListener("click", () => walk("next"));
  byId("lightbox-previous").addEventListener("click", () => walk("previous"));
  byId("lightbox-close").addEventListener("click", () => lightbox.close());
  byId("lightbox-link").addEventListener("click", (event) => event.preventDefault()); // the address has it already

  grid.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    openBox(link.closest("li"), link);
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    if (lightbox.open) {
      const to = { ArrowRight: "next", ArrowLeft: "previous", Home: "first", End: "last" }[event.key];
      if (!to) return;
      event.preventDefault();
      walk(to);
    } else if (!event.target.closest("select, input, textarea")) {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) showHero(step);
    }
  });

  // --- Filters: a film is shown when it was asked for everything chosen. ---

  function filter() {
    const chosen = Array.from(new FormData(filters)).filter(([, value]) => value !== "");
    let shown = 0;
    for (const film of films) {
      film.hidden = !chosen.every(([name, value]) => (film.dataset[name] || "").split("|").includes(value));
      if (!film.hidden) shown += 1;
    }
    hero.deck = [];
    status.textContent = chosen.length === 0 ? "" : `${shown} of ${films.length} films were asked for this.`;
  }

  if (filters) {
    filters.hidden = false;
    filters.addEventListener("change", filter);
    filters.addEventListener("submit", (event) => event.preventDefault());
    filters.addEventListener("reset", () => setTimeout(filter)); // the fields are emptied after this event
  }

  // --- Permalinks: #seed=7 opens that film. ---

  function followAddress() {
    const id = location.hash.slice(1);
    if (!id.startsWith("seed=")) return;
    const film = films.find((candidate) => candidate.id === id);
    if (!film) {
      status.textContent = `There is no film with ${id.replace("=", " ")} in this gallery.`;
      status.scrollIntoView({ block: "center" });
      return;
    }
    if (film.hidden) {
      filters.reset();
      for (const other of films) other.hidden = false;
    }
    openBox(film, document.activeElement === document.body ? null : document.activeElement);
  }

  startHero();
  addEventListener("hashchange", followAddress);
  followAddress();
})();
