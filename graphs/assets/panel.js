"use strict";

/* What is said beside the picture. */

const panel = make("aside", { id: "panel", "aria-live": "polite" });

function about(node) {
  const score = typeof node.score === "number" ? `, score ${number(node.score)}` : "";
  return `${node.id}: ${node.kind === "mlp" ? "MLP" : node.kind}${score}`;
}

function describe(shown, present, focus) {
  summary.textContent = told(shown, present);
  if (focus && !isNodes) {
    const visible = ranked.filter((edge) => shown.has(edge));
    panel.replaceChildren(
      make("h2", { id: "focus" }, about(byName.get(focus))),
      ...table("strongest inputs", visible.filter((edge) => edge.target === focus), (edge) => edge.source),
      ...table("strongest outputs", visible.filter((edge) => edge.source === focus), (edge) => edge.target),
    );
    return;
  }
  panel.replaceChildren(
    make("p", { id: "faithfulness" }, faithfulness(shown)),
    ...table(`strongest ${unit}s`, ranked.filter((item) => shown.has(item)), (item) => (isNodes ? item.id : item.target)),
  );
}

function describeEdge(edge) {
  const spread = typeof edge.standard_error === "number" ? ` \u00b1 ${number(edge.standard_error)}` : "";
  panel.replaceChildren(
    make("h2", {}, edgeName(edge)),
    make("p", {}, `score ${number(edge.score)}${spread}`),
    make("p", { class: "pale" }, `rank ${edge.rank + 1} of ${items.length}`),
  );
}

function table(heading, rows, target) {
  const lines = rows.slice(0, 12).map((item) => make("tr", {},
    make("td", {}, make("button", { type: "button", onclick: () => pin(target(item)) }, isNodes ? item.id : edgeName(item))),
    make("td", {}, number(item.score))));
  const more = rows.length > 12 ? [make("p", { class: "pale" }, `and ${rows.length - 12} more`)] : [];
  return [make("h2", {}, heading), rows.length ? make("table", {}, ...lines) : make("p", {}, "none"), ...more];
}

function told(shown, present) {
  const least = Math.min(...[...shown].map((item) => Math.abs(item.score)));
  const bound = shown.size ? `, |score| at least ${number(least)}` : "";
  const rest = data.left_out ? `; ${data.left_out.toLocaleString("en")} weaker edges are not in this page` : "";
  return `${shown.size} of ${items.length} ${unit}s and ${present.size} of ${nodes.length} nodes shown${bound}${rest}`;
}

function faithfulness(shown) {
  const known = data.faithfulness;
  const isWhole = shown.size === items.length && !data.left_out;
  if (isWhole) return known === null ? "faithfulness was not measured" : `faithfulness ${number(known)}, as measured`;
  const isTop = shown.size === state.count;
  const point = data.curve.find(([count]) => isTop && count === shown.size);
  if (point) return `faithfulness ${number(point[1])}, as measured with the strongest ${point[0]}`;
  const near = data.curve.filter(([count]) => count < shown.size).pop();
  const hints = [near ? `the strongest ${near[0]} have ${number(near[1])}` : "", known === null ? "" : `the whole circuit has ${number(known)}`];
  const hint = hints.filter(Boolean).join(", ");
  return `the faithfulness of what is shown was not measured${hint ? `; ${hint}` : ""}`;
}

function pin(name) {
  state.pinned = state.pinned === name ? null : name;
  update();
}

function hover(name) {
  state.hovered = name;
  if (!state.pinned) update();
}
