"use strict";

/* The prompt pair: its tokens with the difference marked, its answers, the words at the end. */

const reading = make("section", { id: "prompt", "aria-label": "the prompt pair" });
const prompt = () => data.prompts[state.prompt];
const shownToken = (text) => text.replace(/\n/g, "\u21b5") || "\u00b7";
const percent = (value) => {
  if (value === null || value === undefined) return "";
  return value >= 0.0005 ? `${(100 * value).toFixed(1)}\u2009%` : "<0.1\u2009%";
};

/* The token of each position that the circuit's nodes are tied to, by its index. */
function usedPlaces(length) {
  const { positions } = prompt();
  const places = [...new Set(nodes.map(placeOf).filter((name) => name !== null))];
  return new Map(places.flatMap((name) => {
    const named = Object.hasOwn(positions, name);
    const index = named ? positions[name] : Number(name) - (Number(name) < 0 ? 0 : prompt().cut);
    const at = index < 0 ? index + length : index;
    return at >= 0 && at < length ? [[at, name]] : [];
  }));
}

function read() {
  const pair = prompt();
  const places = [...new Set(nodes.map(placeOf).filter((name) => name !== null))];
  if (!pair) {
    const missing = make("span", { class: "pale" }, data.untold);
    reading.replaceChildren(...(places.length
      ? [make("p", {}, "positions: ", ...places.map((name) => placeButton(name, name)))] : [missing]));
    return;
  }
  const total = data.prompts.length;
  const turn = (by) => {
    state.prompt = (state.prompt + by + total) % total;
    state.row = -1;
    remember();
    read();
    update();
  };
  const steps = make("div", { class: "steps" },
    button("\u2039", () => turn(-1), { "aria-label": "previous prompt" }),
    make("span", {}, `prompt ${state.prompt + 1} of ${total}`),
    button("\u203a", () => turn(1), { "aria-label": "next prompt" }));
  const lines = [tokenLine("clean", pair.clean, pair.corrupted)];
  if (pair.corrupted.length) lines.push(tokenLine("corrupted", pair.corrupted, pair.clean));
  reading.replaceChildren(steps, make("div", { class: "lines", tabindex: 0,
    role: "group", "aria-label": "tokens" }, ...lines));
}

function tokenLine(run, tokens, others) {
  const used = run === "clean" ? usedPlaces(tokens.length) : new Map();
  const role = run === "clean" ? "answer" : "counterfactual";
  const answers = prompt().words.filter((word) => word.role === role).map((word) => word.text);
  const cut = prompt().cut ? [make("span", { class: "pale" }, `(${prompt().cut} before) `)] : [];
  const line = tokens.map((told, index) => {
    const differs = others.length > 0 && others[index] !== told;
    if (used.has(index)) return placeButton(told, used.get(index), differs);
    const named = Object.entries(prompt().positions).find(([, at]) => at === index);
    return make("span", { class: differs ? "token differs" : "token", title: named ? named[0] : null },
      shownToken(told));
  });
  return make("div", { class: `line ${run}` }, make("span", { class: "run" }, run), ...cut, ...line,
    ...(answers.length ? [make("span", { class: "arrow", "aria-label": "answer" }, " \u2192 "),
      make("b", { class: "answer" }, answers.map(shownToken).join(" / "))] : []));
}

function placeButton(told, name, differs = false) {
  const turn = () => {
    state.place = state.place === name ? null : name;
    read();
    update();
  };
  const looks = `token used${differs ? " differs" : ""}${name === state.place ? " chosen" : ""}`;
  return make("button", { type: "button", class: looks, title: name, onclick: turn,
    "aria-pressed": name === state.place }, shownToken(told));
}

/* Probabilities of the words at the end: in both runs, in the circuit alone, and after cuts. */
function wordTable() {
  const pair = prompt();
  if (!pair || !pair.words.length) return [];
  const runs = ["clean", "corrupted"];
  if (pair.words.some((word) => word.circuit !== null)) runs.push("circuit");
  if (state.cut) runs.push("cut");
  const value = (word, run, at) => (run === "cut" ? state.cut.words[at] : word[run]);
  const heads = runs.map((run) => make("th", { scope: "col" }, run));
  const rows = pair.words.map((word, at) => make("tr", { class: word.role },
    make("th", { scope: "row" }, make("span", { class: "token" }, shownToken(word.text)),
      ...(word.role ? [make("span", { class: "pale" }, ` ${word.role}`)] : [])),
    ...runs.map((run) => barCell(value(word, run, at)))));
  return [make("h2", {}, "the words at the end"),
    make("table", { id: "words" }, make("thead", {},
      make("tr", {}, make("th", { scope: "col" }, "word"), ...heads)), make("tbody", {}, ...rows))];
}

function barCell(value) {
  const cell = make("td", { class: "bar" }, percent(value));
  cell.style.setProperty("--share", `${100 * (value || 0)}%`);
  return cell;
}
