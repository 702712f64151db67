// The reader study: one film or a pair at a time, without feedback before the end. Which films come, and in which order, is a
// function of the study seed alone, so that several readers see the same ones.
"use strict";

(() => {
  const { draws, shuffled, newId, open, percent, interval, stopwatch, bind } = globalThis.thiscxrAnswers;
  const byId = (id) => document.getElementById(id);
  const facts = JSON.parse(byId("facts").textContent);
  const films = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(globalThis.thiscxrStudy), (letter) => letter.charCodeAt(0))));
  const store = open(`study:${facts.id}`);
  const watch = stopwatch();
  const [settings, form] = [byId("settings"), byId("question")];
  const words = { real: "real", phantom: "procedural", synthetic: facts.other === "real" ? "synthetic" : "learned" };

  const isPair = (round) => round.mode === "pair";
  const kind = (name) => films.filter((film) => film.truth === name);
  const most = (mode) => (mode === "pair" ? Math.min(kind("synthetic").length, kind(facts.other).length) : films.length);

  // The films of a round: lists of one film, or of two (left, right).
  function questions({ mode, seed, count }) {
    const draw = draws(seed);
    if (mode !== "pair") return shuffled(films, draw).slice(0, count).map((film) => [film]);
    const [fake, other] = [shuffled(kind("synthetic"), draw), shuffled(kind(facts.other), draw)];
    return Array.from({ length: count }, (_, i) => (draw() < 0.5 ? [fake[i], other[i]] : [other[i], fake[i]]));
  }

  const truthOf = (pair) => (pair.length === 1 ? pair[0].truth : pair[0].truth === "synthetic" ? "left" : "right");
  const answersOf = (round) => store.rows.filter((row) => row.session === round.session);

  // --- Before: who reads, and what. ---

  function fromAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const name of ["mode", "films", "seed"]) {
      if (asked.has(name)) byId(name).value = asked.get(name);
    }
    if (!byId("mode").value) byId("mode").value = "single";
    countChoices(asked.get("films"));
  }

  function countChoices(wanted) {
    const all = most(byId("mode").value);
    const counts = [10, 20, 40, Number(wanted)].filter((n) => Number.isInteger(n) && n > 0 && n < all);
    const list = [...new Set([...counts, all])].sort((a, b) => a - b);
    byId("films").replaceChildren(...list.map((n) => new Option(n === all ? `all ${n}` : n, n)));
    const chosen = list.includes(Number(wanted)) ? Number(wanted) : list.includes(20) ? 20 : all;
    byId("films").value = chosen;
  }

  function begin() {
    const seed = Number(byId("seed").value);
    if (!/^\d{1,10}$/.test(byId("seed").value.trim()) || seed >= 2 ** 32) {
      byId("seed").setCustomValidity(`A whole number from 0 to ${2 ** 32 - 1}`);
      byId("seed").reportValidity();
      return;
    }
    reader.read();
    store.round = { session: newId(), mode: byId("mode").value, seed, count: Number(byId("films").value) };
    store.save();
    ask();
  }

  // --- During: one question. ---

  let at = 0, asked = [];

  function view(name) {
    for (const id of ["before", "round", "after"]) byId(id).hidden = id !== name;
    byId("answers").hidden = byId("about").hidden = name === "round"; // nothing beside the question
  }

  async function ask() {
    const round = store.round;
    asked = questions(round);
    at = answersOf(round).length;
    if (at >= asked.length) return finish();
    view("round");
    const pair = isPair(round);
    byId("place").textContent = `${pair ? "Pair" : "Film"} ${at + 1} of ${asked.length}`;
    byId("progress").max = asked.length;
    byId("progress").value = at;
    byId("round-seed").textContent = round.seed;
    form.reset();
    byId("single-answers").hidden = byId("single-answers").disabled = pair;
    byId("pair-answers").hidden = byId("pair-answers").disabled = !pair;
    byId("stage").classList.toggle("pair", pair);
    form.classList.toggle("wide", pair);
    byId("next").disabled = true;
    const pictures = asked[at].map((film, side) => {
      const figure = document.createElement("figure");
      const picture = new Image();
      picture.src = film.src;
      picture.alt = pair ? ["The film on the left", "The film on the right"][side] : `The film in question, ${at + 1} of ${asked.length}`;
      figure.append(picture);
      if (pair) {
        const caption = document.createElement("figcaption");
        caption.textContent = ["Left", "Right"][side];
        figure.append(caption);
      }
      return [figure, picture];
    });
    byId("stage").replaceChildren(...pictures.map(([figure]) => figure));
    byId("place").focus({ preventScroll: true });
    byId("round").scrollIntoView({ block: "start" });
    byId("round-status").textContent = "";
    try {
      await Promise.all(pictures.map(([, picture]) => picture.decode())); // the clock starts when there is something to see
    } catch {
      byId("round-status").textContent = "This film cannot be loaded: is the site whole?";
      return;
    }
    byId("next").disabled = false;
    watch.start();
    for (const film of asked[at + 1] || []) new Image().src = film.src;
  }

  function answer() {
    const given = new FormData(form), round = store.round, pair = asked[at];
    if (!given.get("answer") || !given.get("confidence") || byId("next").disabled) return;
    const fake = pair.find((film) => film.truth === "synthetic");
    store.rows.push({
      session: round.session, reader: store.reader, role: store.role, mode: round.mode,
      item: pair.map((film) => film.item).join("|"), findings: (isPair(round) ? fake : pair[0]).findings, label: "",
      truth: truthOf(pair), answer: given.get("answer"), confidence: given.get("confidence"),
      seconds: watch.seconds().toFixed(2), at: new Date().toISOString(),
    });
    store.save();
    reader.show();
    ask();
  }

  // Keys: left and right choose the answer, 1 to 4 say how sure, Enter continues; not while a field has its own use for them.
  document.addEventListener("keydown", (event) => {
    if (byId("round").hidden || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const choices = form.querySelectorAll("fieldset:not(:disabled) input[name='answer']");
    const arrow = { ArrowLeft: 0, ArrowRight: 1 }[event.key];
    if (arrow !== undefined && event.target.type !== "radio") {
      choices[arrow].checked = true;
    } else if (/^[1-4]$/.test(event.key)) {
      form.querySelector(`input[name='confidence'][value='${event.key}']`).checked = true;
    } else if (event.key === "Enter" && !event.target.closest("button, a, input")) {
      form.requestSubmit();
    } else {
      return;
    }
    event.preventDefault();
  });

  // --- After: how it went, and what the films were. ---

  function finish() {
    const round = store.round, rows = answersOf(round);
    asked = questions(round);
    store.round = null;
    store.save();
    if (rows.length === 0) return view("before");
    const right = rows.filter((row) => row.answer === row.truth).length;
    byId("result").textContent = `${right} of ${rows.length} right (${percent(right / rows.length)}; 95\u00a0% interval ${interval(right, rows.length)}). `
      + "Guessing gives half.";
    byId("films-after").replaceChildren(...rows.map((row, place) => {
      const line = document.createElement("li");
      line.className = row.answer === row.truth ? "right" : "wrong";
      const figures = document.createElement("div");
      figures.append(...asked[place].map((film) => Object.assign(new Image(), { src: film.src, alt: "" })));
      const said = document.createElement("p");
      const truth = isPair(round) ? `${words.synthetic}: on the ${row.truth}` : words[row.truth];
      said.textContent = `${truth[0].toUpperCase()}${truth.slice(1)}. You were ${row.answer === row.truth ? "right" : "wrong"}.`;
      line.append(figures, said);
      return line;
    }));
    view("after");
    byId("after-title").focus();
  }

  // --- The page comes to life. ---

  const reader = bind(store, "study", () => { view("before"); resume(); });

  function resume() {
    const round = store.round;
    const done = round ? answersOf(round).length : 0;
    byId("resume").hidden = !round;
    if (round) byId("resume").textContent = `Continue: ${done} of ${round.count} answered`;
  }

  settings.hidden = byId("answers").hidden = false;
  fromAddress();
  resume();
  addEventListener("hashchange", fromAddress);
  byId("mode").addEventListener("change", () => countChoices(byId("films").value));
  byId("seed").addEventListener("input", () => byId("seed").setCustomValidity(""));
  settings.addEventListener("submit", (event) => { event.preventDefault(); begin(); });
  form.addEventListener("submit", (event) => { event.preventDefault(); answer(); });
  byId("resume").addEventListener("click", ask);
  byId("stop").addEventListener("click", finish);
  byId("again").addEventListener("click", () => { view("before"); resume(); byId("begin").focus(); });
})();
