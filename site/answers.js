// What the two study pages share: the order of films, the answers kept in this browser, their CSV. Nothing is ever sent.
// The columns are those that `thiscxr readers` reads (docs/formats.md, "Answers of a reader study").
"use strict";

globalThis.thiscxrAnswers = (() => {
  const COLUMNS = ["session", "reader", "role", "mode", "item", "findings", "label", "truth", "answer", "confidence", "seconds", "at"];

  // Uniform numbers in [0, 1) that are a function of the seed: xorshift32 (Marsaglia 2003), begun with the seed's bits well mixed, since
  // neighbouring seeds would begin alike.
  function draws(seed) {
    let state = seed >>> 0;
    for (const factor of [0x85ebca6b, 0xc2b2ae35]) state = Math.imul(state ^ (state >>> 16), factor);
    state = (state ^ (state >>> 16)) || 0x9e3779b9; // never 0, where xorshift stays
    return () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) / 2 ** 32;
    };
  }

  function shuffled(things, draw) {
    const deck = things.slice();
    for (let last = deck.length - 1; last > 0; last--) {
      const other = Math.floor(draw() * (last + 1));
      [deck[last], deck[other]] = [deck[other], deck[last]];
    }
    return deck;
  }

  const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");

  // The answers of one study, in this browser's storage where it has one (not in every private window), else in memory only.
  function open(id) {
    const key = `thiscxr:${id}`;
    const empty = () => ({ reader: `reader-${newId().slice(0, 4)}`, role: "", rows: [], round: null });
    const store = { ...empty(), kept: true };
    store.save = () => {
      const { reader, role, rows, round } = store;
      try {
        localStorage.setItem(key, JSON.stringify({ reader, role, rows, round }));
      } catch {
        store.kept = false;
      }
    };
    store.clear = () => {
      Object.assign(store, empty());
      try {
        localStorage.removeItem(key);
      } catch {
        store.kept = false;
      }
    };
    try {
      const found = JSON.parse(localStorage.getItem(key) || "{}");
      if (Array.isArray(found.rows)) Object.assign(store, found);
    } catch {
      store.kept = false;
    }
    return store;
  }

  // RFC 4180: quotes around what needs them, lines end in CR LF.
  function csv(rows) {
    const cell = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
    return [COLUMNS, ...rows.map((row) => COLUMNS.map((name) => row[name]))].map((cells) => cells.map(cell).join(",") + "\r\n").join("");
  }

  function download(name, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // Wilson 1927, as in thiscxr/gallery/readers.py.
  function wilson(hits, n) {
    const z = 1.959963984540054, p = hits / n, square = (z * z) / n;
    const middle = (p + square / 2) / (1 + square);
    const half = (z * Math.sqrt((p * (1 - p)) / n + square / (4 * n))) / (1 + square);
    return [Math.max(0, middle - half), Math.min(1, middle + half)];
  }

  const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
  const interval = (hits, n) => wilson(hits, n).map(percent).join(" to ");

  // Seconds that the page was looked at since `start`; time with the page hidden does not count.
  function stopwatch() {
    let begun = null, sum = 0;
    const now = () => performance.now();
    document.addEventListener("visibilitychange", () => {
      if (begun === null) return;
      sum += document.hidden ? now() - begun : 0;
      begun = now();
    });
    return {
      start: () => { sum = 0; begun = now(); },
      seconds: () => (begun === null ? 0 : (sum + (document.hidden ? 0 : now() - begun)) / 1000),
    };
  }

  // What is the same on both pages: who reads, what this browser holds, export, deletion.
  function bind(store, prefix, changed) {
    const byId = (id) => document.getElementById(id);
    const [reader, role] = [byId("reader"), byId("role")];
    function show() {
      reader.value = store.reader;
      role.value = store.role;
      const n = store.rows.length;
      byId("kept").textContent = (n === 0 ? "No answers yet." : `${n} answer${n === 1 ? "" : "s"} in this browser.`)
        + (store.kept ? "" : " This browser keeps nothing when the page is closed: save the answers before.");
      byId("export").disabled = byId("forget").disabled = n === 0;
    }
    byId("export").addEventListener("click", () => download(`answers-${prefix}-${store.reader}.csv`, csv(store.rows)));
    byId("forget").addEventListener("click", () => {
      if (!confirm("Delete all answers of this page from this browser? They are nowhere else unless you saved them.")) return;
      store.clear();
      changed();
      show();
    });
    show();
    return {
      show,
      // Take over who reads; a name is needed, since answers of two nameless readers would count as one reader's.
      read: () => {
        store.reader = reader.value.trim().slice(0, 60) || store.reader;
        store.role = role.value;
        store.save();
        show();
      },
    };
  }

  return { COLUMNS, draws, shuffled, newId, open, csv, percent, interval, stopwatch, bind };
})();
