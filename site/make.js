// The page on which a film is made. The network and its arithmetic (generator.js) are loaded when the first film is requested, and run
// in a Worker; this script reads the form, shows the film, and saves it with its marks.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const facts = JSON.parse(byId("facts").textContent);
  const form = byId("ask"), status = byId("status");
  const MAX_SEED = Number.MAX_SAFE_INTEGER;
  const NEIGHBOURS = 6, NEIGHBOUR_T = 0.35; // how many films are "like this", and how far they lie towards other seeds
  const SEXES = { F: "female", M: "male" };
  const fromFile = location.protocol === "file:";

  // --- The Worker. ---

  const waiting = new Map(); // id of a message -> what to do with its answer
  let worker = null, opened = null, messages = 0;

  function send(message) {
    return new Promise((resolve, reject) => {
      const id = messages++;
      waiting.set(id, ({ error, ...reply }) => (error ? reject(new Error(error)) : resolve(reply)));
      worker.postMessage({ id, ...message });
    });
  }

  function loadScript(address) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = address;
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${address} could not be loaded.`));
      document.head.append(script);
    });
  }

  async function loadWeights() { // a page from file:// may not read files, but it may run scripts
    if (!fromFile) {
      const answer = fetch("generator/network.safetensors", { integrity: facts.integrity });
      const response = await answer.catch(() => ({ ok: false }));
      if (!response.ok) throw new Error("The network could not be loaded, or is not the one that this page was made with.");
      return response.arrayBuffer();
    }
    await loadScript("generator/network.js");
    return Uint8Array.from(atob(globalThis.thiscxrNetwork), (character) => character.charCodeAt(0)).buffer;
  }

  async function open() {
    const [weights] = await Promise.all([loadWeights(), loadScript("generator.js")]);
    const text = `"use strict"; (${thiscxrWorker})((${thiscxrGenerator})());`;
    worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => {
      waiting.get(data.id)(data);
      waiting.delete(data.id);
    };
    await send({ weights });
  }

  async function film(request) {
    opened ??= open();
    try {
      await opened;
    } catch (error) {
      opened = null; // the next try loads again
      throw error;
    }
    return send({ film: request });
  }

  // --- What is requested: the form, and the address. ---

  const findingFields = Array.from(form.querySelectorAll("[data-finding]"));
  const value = (id) => byId(id)?.value || null;
  const isSeed = (text) => /^\d+$/.test(text) && Number(text) <= MAX_SEED;

  function read() { // -> what the generator is to draw. Throws an error in words.
    for (const id of ["seed", "to"]) {
      byId(id).value = byId(id).value.trim();
      if (!isSeed(byId(id).value)) throw new Error(`${byId(id).value || "Nothing"} is not a seed: use a whole number from 0 to ${MAX_SEED}.`);
    }
    const named = (state) => findingFields.filter((field) => field.value === state).map((field) => field.dataset.finding);
    const asked = {
      view: value("view"),
      sex: value("sex"),
      age_years: byId("ask-age")?.checked ? Number(value("age")) : null,
      source: value("source"),
      findings: named("1"),
      no_findings: named("-1"),
    };
    const any = Object.values(asked).some((wanted) => wanted !== null && wanted.length !== 0);
    return {
      seed: Number(value("seed")),
      asked: any ? asked : null,
      truncation: Number(value("truncation")),
      to: Number(value("to")),
      t: Number(value("t")),
      pair: Boolean(byId("pair")?.checked),
    };
  }

  function permalink(request) {
    const parts = new URLSearchParams({ seed: request.seed });
    const { view, sex, age_years, source, findings, no_findings } = request.asked || { findings: [], no_findings: [] };
    for (const [name, wanted] of Object.entries({ view, sex, age: age_years, source })) if (wanted != null) parts.set(name, wanted);
    for (const finding of findings) parts.append("finding", finding);
    for (const finding of no_findings) parts.append("no-finding", finding);
    if (request.truncation !== 1) parts.set("truncation", request.truncation);
    if (request.t) {
      parts.set("to", request.to);
      parts.set("t", request.t);
    }
    if (request.pair) parts.set("pair", 1);
    return `#${parts}`;
  }

  function fill(parts) { // the form from an address's parts; returns what it could not take, in words
    form.reset();
    const refused = [];
    const set = (id, wanted) => {
      const field = byId(id);
      if (field) field.value = wanted;
      if (!field || field.value !== wanted) refused.push(`${id} ${wanted}`);
    };
    for (const [name, wanted] of parts) {
      if (name === "finding" || name === "no-finding") {
        const field = findingFields.find((candidate) => candidate.dataset.finding === wanted), state = name === "finding" ? "1" : "-1";
        if (["", state].includes(field?.value)) field.value = state;
        else refused.push(`${name} ${wanted}`); // not known to the network, or requested both ways
      } else if (name === "pair" && byId("pair")) {
        byId("pair").checked = wanted === "1";
      } else if (["seed", "view", "sex", "age", "source", "truncation", "to", "t"].includes(name)) {
        set(name, wanted);
        if (name === "age" && byId("age")) byId("ask-age").checked = true;
      } else {
        refused.push(name);
      }
    }
    if (byId("findings")) byId("findings").open = findingFields.some((field) => field.value);
    byId("morph").open = parts.has("t");
    say();
    return refused;
  }

  function say() { // what the sliders stand at
    byId("truncation-words").textContent = value("truncation");
    byId("t-words").textContent = `${Math.round(value("t") * 100)}\u00a0%`;
    if (!byId("age")) return;
    byId("age").disabled = !byId("ask-age").checked;
    byId("age-words").textContent = byId("ask-age").checked ? `${value("age")} years` : "not asked";
  }

  const words = (name) => name.replaceAll("_", " ").toLowerCase();

  function inWords(condition) { // as the gallery says it
    const parts = [];
    if (condition.view) parts.push(condition.view === "unknown" ? "view unknown" : `${condition.view.replaceAll("_", " ")} view`);
    if (condition.sex) parts.push(SEXES[condition.sex] || condition.sex);
    if (condition.age_years !== null) parts.push(`${condition.age_years} years`);
    parts.push(...condition.findings.map(words));
    if (condition.source) parts.push(`in the manner of ${condition.source}`);
    const absent = condition.no_findings.filter((name) => name !== "No Finding").map(words);
    const without = absent.length > 4 ? `${absent.length} other findings` : absent.join(", ");
    return parts.join(", ") + (without ? `${parts.length ? "; " : ""}without ${without}` : "");
  }

  // --- Films on the page. ---

  let shown = []; // {canvas, request, pixels, condition}: one film, or the two of a pair

  function show(canvas, request, { pixels, condition }) {
    const picture = new ImageData(facts.res, facts.res);
    pixels.forEach((grey, i) => picture.data.fill(grey, 4 * i, 4 * i + 3));
    for (let i = 3; i < picture.data.length; i += 4) picture.data[i] = 255; // opaque
    canvas.getContext("2d", { willReadFrequently: true }).putImageData(picture, 0, 0); // a small picture, which need not go to the GPU
    const asked = inWords(condition);
    const seed = request.t ? `Seed ${request.seed}, ${Math.round(request.t * 100)}\u00a0% of the way to seed ${request.to}` : `Seed ${request.seed}`;
    canvas.setAttribute("aria-label", `Synthetic chest x-ray, ${seed.toLowerCase()}${asked && `, asked for: ${asked}`}. Not a patient.`);
    return { canvas, request, pixels, condition, title: seed, asked: asked ? `Asked for: ${asked}` : "Nothing was asked for" };
  }

  function setAddress(hash) {
    try {
      history.replaceState(null, "", hash);
    } catch {
      // Safari allows a hundred changes in half a minute, and a slider makes more; the link beside the film is right all the same.
    }
  }

  async function drawFilm(request) {
    status.textContent = opened ? "Generating…" : "Loading the network…";
    const requests = request.pair ? ["frontal", "lateral"].map((part) => ({ ...request, part })) : [request];
    const drawn = [];
    for (const one of requests) drawn.push(await film(one));
    const films = drawn.map((one, i) => show(byId(i ? "film-partner" : "film"), requests[i], one));
    if (byId("pair")) byId("partner-figure").hidden = !request.pair;
    shown = films;
    byId("film-caption").querySelector(".seed").textContent = films[0].title;
    byId("film-caption").querySelector(".asked").textContent = films[0].asked + (request.pair ? `; beside it, ${inWords(films[1].condition)}` : "");
    byId("size").hidden = true;
    for (const id of ["more", "save"]) byId(id).disabled = false;
    byId("film-link").hidden = false;
    byId("film-link").href = permalink(request);
    setAddress(permalink(request));
    status.textContent = `Generated in ${drawn[0].seconds.toFixed(2)} s.`;
    byId("film").dataset.seed = request.seed;
  }

  let next = null, drawing = false; // of many requests, the last is generated

  async function generate() {
    delete byId("film").dataset.seed;
    try {
      next = read();
      if (drawing) return;
      drawing = true;
      while (next) {
        const request = next;
        next = null;
        delete byId("film").dataset.seed;
        await drawFilm(request);
      }
    } catch (error) {
      next = null;
      status.textContent = error.message;
    }
    drawing = false;
  }

  // Films some of the way to other seeds, with the same conditions: what the seed drew is now requested.
  async function more() {
    const { request, condition } = shown[0];
    byId("more").disabled = true;
    fill(new URLSearchParams(permalink({ ...request, asked: condition, t: 0 }).slice(1)));
    byId("like").hidden = false;
    byId("like-words").textContent = `From seed ${request.seed}, ${NEIGHBOUR_T * 100}\u00a0% of the way to others, with the same conditions.`;
    byId("like-films").replaceChildren();
    try {
      for (let i = 1; i <= NEIGHBOURS; i++) {
        const to = request.seed <= MAX_SEED - NEIGHBOURS ? request.seed + i : request.seed - i;
        const neighbour = { ...request, asked: condition, part: null, to, t: NEIGHBOUR_T, pair: false };
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = facts.res;
        canvas.setAttribute("role", "img");
        show(canvas, neighbour, await film(neighbour));
        const button = document.createElement("button");
        button.type = "button";
        button.append(canvas);
        button.addEventListener("click", () => {
          fill(new URLSearchParams(permalink(neighbour).slice(1)));
          generate();
        });
        const item = document.createElement("li");
        item.append(button);
        byId("like-films").append(item);
      }
    } catch (error) {
      status.textContent = error.message;
    }
    byId("more").disabled = false;
  }

  // --- A PNG with the marks that thiscxr's own carry. ---

  function marks({ request, condition }) {
    const { view, sex, age_years, source, findings, no_findings } = condition;
    const asked = { age_years: age_years ?? "", findings: findings.join("|"), no_findings: no_findings.join("|"), sex, source, view };
    const ascii = (text) => JSON.stringify(text).replace(/[^ -~]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
    const known = Object.entries(asked).filter(([, wanted]) => wanted !== "" && wanted !== null);
    return {
      Title: "Synthetic chest x-ray",
      Seed: String(request.seed),
      Truncation: String(request.truncation),
      Network: facts.sha256,
      Asked: `{${known.map(([name, wanted]) => `${ascii(name)}: ${ascii(String(wanted))}`).join(", ")}}`,
      ...facts.marks,
      ...(request.t ? { Morph: `to seed ${request.to}, ${request.t} of the way` } : {}),
    };
  }

  const png = (one) => thiscxrPng(one.pixels, facts.res, facts.res, marks(one));

  async function save() {
    for (const one of shown) {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await png(one));
      const view = shown.length > 1 && one.condition.view ? `-${one.condition.view}` : "";
      link.download = `synthetic-seed-${String(one.request.seed).padStart(8, "0")}${view}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    }
  }

  // --- The page comes to life. ---

  function followAddress() {
    const refused = fill(new URLSearchParams(location.hash.slice(1)));
    if (refused.length) status.textContent = `The address asks for what cannot be generated here: ${refused.join(", ")}.`;
    else if (opened) generate();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    generate();
  });
  byId("nothing").addEventListener("click", () => {
    fill(new URLSearchParams({ seed: byId("seed").value }));
    if (opened) generate();
  });
  form.addEventListener("input", (event) => {
    say();
    if (opened && !["seed", "to"].includes(event.target.id)) generate();
  });
  byId("another").addEventListener("click", () => {
    byId("seed").value = Math.floor(Math.random() * 2 ** 32);
    byId("t").value = 0;
    say();
    generate();
  });
  byId("more").addEventListener("click", more);
  byId("save").addEventListener("click", save);
  byId("film-link").addEventListener("click", (event) => event.preventDefault()); // the address has it already
  addEventListener("hashchange", followAddress);

  form.hidden = false;
  for (const id of ["seed-label", "generate", "another", "more", "save"]) byId(id).hidden = false;
  if (fromFile) byId("size").textContent = byId("size").dataset.fromFile;
  if (location.hash.length > 1 && location.hash.includes("=")) followAddress();
  else say();
})();
