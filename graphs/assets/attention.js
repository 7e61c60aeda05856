"use strict";

/* What a node does on the prompt that is shown: a head's attention, direct effects on words. */

const LOOKS = ["clean", "corrupted", "difference"];

/* The lower triangle of a pattern, row by row, from two bytes a number. */
function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const size = Math.floor(Math.sqrt(bytes.length));
  const rows = [];
  let at = 0;
  for (let i = 0; i < size; i += 1) {
    const row = [];
    for (let j = 0; j <= i; j += 1, at += 2) row.push((bytes[at] + 256 * bytes[at + 1]) / 65535);
    rows.push(row);
  }
  return rows;
}

function patternOf(kept, look) {
  if (look !== "difference") return unpack(kept[look]);
  const [clean, corrupted] = [unpack(kept.clean), unpack(kept.corrupted)];
  return clean.map((row, i) => row.map((value, j) => value - corrupted[i][j]));
}

function attentionOf(name) {
  const pair = prompt();
  if (!pair || byName.get(name)?.kind !== "head") return [];
  const title = make("h2", {}, "attention on this prompt");
  const kept = pair.attention[bare(name)];
  if (!kept) {
    if (data.served) fetchAttention(bare(name));
    const told = data.served ? "asking the model\u2026"
      : "the attention of this head was not kept for this prompt";
    return [title, make("p", { class: "pale", id: "attention" }, told)];
  }
  const looks = LOOKS.map((look) => make("button", { type: "button", role: "radio",
    "aria-checked": look === state.look, onclick: () => { state.look = look; update(); } }, look));
  const rows = patternOf(kept, state.look);
  const row = state.row < 0 || state.row >= rows.length ? rows.length - 1 : state.row;
  return [title, make("div", { class: "looks", role: "radiogroup", "aria-label": "which run" }, ...looks),
    heat(rows, row), ...attended(rows, row)];
}

const tokensOf = (look) => (look === "corrupted" ? prompt().corrupted : prompt().clean);

/* Rows attend to columns; blue is more, orange (of a difference) less. */
function heat(rows, chosen) {
  const tokens = tokensOf(state.look), size = rows.length;
  const room = 286, labels = size <= 26 ? 62 : 4;
  const cell = Math.max((room - labels) / size, 2);
  const most = Math.max(...rows.flat().map(Math.abs), 1e-9);
  const cells = rows.flatMap((row, i) => row.map((value, j) => draw("rect", {
    class: `cell ${value < 0 ? "negative" : "positive"}`,
    x: labels + j * cell, y: i * cell, width: cell, height: cell,
    "fill-opacity": (Math.abs(value) / most).toFixed(3),
    "data-value": value.toFixed(7),
    onclick: () => { state.row = i; update(); },
  }, draw("title", {}, `${tokens[i]} \u2192 ${tokens[j]}: ${number(value)}`))));
  const line = draw("rect", { class: "chosen-row", x: labels, y: chosen * cell,
    width: (chosen + 1) * cell, height: cell });
  const short = (text) => (text.length > 9 ? `${text.slice(0, 8)}\u2026` : shownToken(text));
  const named = size > 26 ? [] : tokens.map((told, i) => draw("text", { class: "label", x: labels - 3,
    y: (i + 0.5) * cell + 3, "font-size": 9, "text-anchor": "end" }, short(told)));
  const below = size > 26 ? [] : tokens.map((told, j) => draw("text", { class: "label",
    transform: `translate(${labels + (j + 0.5) * cell + 3} ${size * cell + 4}) rotate(-60)`,
    "font-size": 9, "text-anchor": "end" }, short(told)));
  const tall = size * cell + (size > 26 ? 4 : 62);
  return draw("svg", { id: "attention", viewBox: `0 0 ${room} ${tall}`, width: "100%", role: "img",
    "data-look": state.look, "aria-label": `attention, ${state.look}: rows attend to columns` },
    ...cells, line, ...named, ...below);
}

/* The chosen row in words, so that a pattern can be read without seeing it. */
function attended(rows, row) {
  const tokens = tokensOf(state.look);
  const select = make("select", { "aria-label": "the token that attends",
    onchange: (event) => { state.row = Number(event.target.value); update(); } },
    ...rows.map((_, i) => make("option", { value: i, ...(i === row ? { selected: "" } : {}) },
      `${i} ${shownToken(tokens[i])}`)));
  const strongest = rows[row].map((value, j) => [value, j])
    .sort((a, b) => Math.abs(b[0]) - Math.abs(a[0])).slice(0, 4);
  const told = strongest.map(([value, j]) => make("tr", {},
    make("td", {}, `${j} `, make("span", { class: "token" }, shownToken(tokens[j]))),
    make("td", {}, number(value))));
  const what = state.look === "difference" ? "attends more, or less, to" : "attends to";
  return [make("p", { class: "row" }, select, ` ${what}`), make("table", {}, ...told)];
}

/* Direct effects on the words at the end, and the words that a part pushes most. */
function directOf(name) {
  const pair = prompt(), effects = pair?.effects[bare(name)];
  if (!effects) return [];
  const rows = pair.words.map((word, at) => make("tr", { class: word.role },
    make("th", { scope: "row" }, make("span", { class: "token" }, shownToken(word.text))),
    ...["clean", "corrupted"].map((run) => make("td", {}, number(effects[run][at])))));
  const heads = ["word", "clean", "corrupted"].map((told) => make("th", { scope: "col" }, told));
  const promoted = pair.promotes[bare(name)];
  const list = (pairs) => pairs.map(([text, value]) =>
    `${shownToken(text).trim() || "\u2423"} ${number(value)}`).join(", ");
  return [
    make("h2", {}, "direct effect on the words, in logits"),
    make("table", { id: "direct" }, make("thead", {}, make("tr", {}, ...heads)),
      make("tbody", {}, ...rows)),
    ...(promoted ? [
      make("p", {}, make("span", { class: "pale" }, "raises most: "), list(promoted.more)),
      make("p", {}, make("span", { class: "pale" }, "lowers most: "), list(promoted.less)),
    ] : []),
  ];
}
