// The label audit: sheets of films that share a label; the reader marks those whose label he doubts (orange) or denies (red).
"use strict";

(() => {
  const { newId, open, percent, interval, stopwatch, bind } = globalThis.thiscxrAnswers;
  const byId = (id) => document.getElementById(id);
  const facts = JSON.parse(byId("facts").textContent);
  const store = open(`audit:${facts.id}`);
  const watch = stopwatch();
  const ANSWERS = ["agree", "not sure", "disagree"];
  const sheets = facts.sheets;
  const settings = byId("settings"), form = byId("sheet-form");
  let current = null;

  const text = (label) => label.replaceAll("_", " ").toLowerCase();
  const name = (sheet) => `${sheet.kind === "real" ? "Real films labelled" : "Synthetic films asked for"} ${text(sheet.label)}`;
  const answersOf = (sheet) =>
    store.rows.filter((row) => store.round && row.session === store.round.session && row.label === sheet.label && row.truth === sheet.kind);

  function element(tag, content = "", extra = {}) {
    return Object.assign(document.createElement(tag), { textContent: content, ...extra });
  }

  // The table of all sheets: what was found in those that are done, a way into those that are not.
  function list() {
    byId("sheets").replaceChildren(...sheets.map((sheet, place) => {
      const row = document.createElement("tr"), given = answersOf(sheet), n = sheet.films.length;
      const count = (answer) => given.filter((one) => one.answer === answer).length;
      const head = element("th", name(sheet), { scope: "row" });
      const cell = (label, words) => {
        const made = element("td", words);
        made.dataset.label = label;
        return made;
      };
      const last = element("td");
      if (given.length) {
        last.textContent = "Done";
      } else {
        const button = element("button", "Open", { type: "button" });
        button.setAttribute("aria-label", `Open: ${name(sheet)}`);
        button.addEventListener("click", () => show(place));
        last.append(button);
      }
      const found = given.length
        ? [cell("Agree", `${percent(count("agree") / n)} (${interval(count("agree"), n)})`), cell("Not sure", count("not sure")), cell("Disagree", count("disagree"))]
        : [element("td"), element("td"), element("td")];
      row.append(head, cell("Films", n), ...found, last);
      return row;
    }));
    byId("reader-new").disabled = !store.round;
  }

  function film({ src, item }, place, sheet) {
    const line = document.createElement("li"), group = document.createElement("fieldset");
    const picture = Object.assign(new Image(), { src, alt: `${sheet.kind === "real" ? "Real" : "Synthetic"} chest film ${place + 1} of ${sheet.films.length}` });
    const choices = document.createElement("div");
    choices.className = "marks";
    const inputs = ANSWERS.map((answer) => {
      const input = Object.assign(document.createElement("input"), { type: "radio", name: item, value: answer, checked: answer === "agree" });
      const label = document.createElement("label");
      label.append(input, element("span", answer));
      choices.append(label);
      return input;
    });
    // A click on the film goes through the marks, as one would with a pencil; the keyboard has the choices below it.
    picture.addEventListener("click", () => {
      inputs[(inputs.findIndex((input) => input.checked) + 1) % ANSWERS.length].checked = true;
    });
    group.append(element("legend", `Film ${place + 1}`), picture, choices);
    line.append(group);
    return line;
  }

  function show(place) {
    reader.read();
    store.round ??= { session: newId() };
    store.save();
    current = sheets[place];
    byId("sheet-title").textContent = name(current);
    byId("sheet-films").replaceChildren(...current.films.map((one, i) => film(one, i, current)));
    byId("before").hidden = true;
    byId("sheet").hidden = false;
    byId("sheet-title").focus({ preventScroll: true });
    byId("sheet").scrollIntoView({ block: "start" });
    watch.start();
  }

  function back() {
    byId("sheet").hidden = true;
    byId("before").hidden = false;
    current = null;
    list();
    reader.show();
    byId("sheets-title").focus();
  }

  function done() {
    const given = new FormData(form), now = new Date().toISOString();
    const each = (watch.seconds() / current.films.length).toFixed(2); // the time of the sheet, shared among its films
    for (const { item } of current.films) {
      store.rows.push({
        session: store.round.session, reader: store.reader, role: store.role, mode: "audit", item, findings: current.label,
        label: current.label, truth: current.kind, answer: given.get(item), confidence: "", seconds: each, at: now,
      });
    }
    store.save();
    back();
  }

  const reader = bind(store, "audit", list);
  settings.hidden = byId("answers").hidden = false;
  list();
  settings.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("submit", (event) => { event.preventDefault(); done(); });
  byId("leave").addEventListener("click", back);
  byId("reader-new").addEventListener("click", () => {
    store.round = null;
    store.reader = `reader-${newId().slice(0, 4)}`;
    store.role = "";
    store.save();
    reader.show();
    list();
    byId("reader").focus();
  });
})();
