"use strict";

/* What is said beside the picture. */

const MOST_ROWS = 12;
const summary = make("span", { id: "status", class: "pale", role: "status" });
const panel = make("aside", { id: "panel", "aria-live": "polite" });

function about(node) {
  const score = isScored(node) ? `, score ${number(node.score)}` : "";
  return `${node.id}: ${node.kind === "mlp" ? "MLP" : node.kind}${score}`;
}

function describe(shown, present, focus) {
  summary.textContent = counted(shown, present);
  const visible = ranked.filter((item) => shown.has(item));
  if (!focus || isNodes) {
    const target = (item) => (isNodes ? item.id : item.target);
    panel.replaceChildren(
      make("p", { id: "faithfulness" }, faithfulness(shown)),
      ...table(`strongest ${unit}s`, visible, target),
    );
    return;
  }
  const inputs = visible.filter((edge) => edge.target === focus);
  const outputs = visible.filter((edge) => edge.source === focus);
  panel.replaceChildren(
    make("h2", { id: "focus" }, about(byName.get(focus))),
    ...table("strongest inputs", inputs, (edge) => edge.source),
    ...table("strongest outputs", outputs, (edge) => edge.target),
  );
}

function describeEdge(edge) {
  const spread = "standard_error" in edge ? ` \u00b1 ${number(edge.standard_error)}` : "";
  panel.replaceChildren(
    make("h2", {}, edgeName(edge)),
    make("p", {}, `score ${number(edge.score)}${spread}`),
    make("p", { class: "pale" }, `rank ${edge.rank + 1} of ${items.length}`),
  );
}

/* The first rows of a list; clicking one pins the node it leads to. */
function table(heading, rows, target) {
  const title = make("h2", {}, heading);
  if (!rows.length) return [title, make("p", {}, "none")];
  const lines = rows.slice(0, MOST_ROWS).map((item) => {
    const press = { type: "button", onclick: () => pin(target(item)) };
    const name = make("td", {}, make("button", press, itemName(item)));
    return make("tr", {}, name, make("td", {}, number(item.score)));
  });
  const rest = rows.length - MOST_ROWS;
  const more = rest > 0 ? [make("p", { class: "pale" }, `and ${rest} more`)] : [];
  return [title, make("table", {}, ...lines), ...more];
}

function counted(shown, present) {
  const parts = [
    `${shown.size} of ${items.length} ${unit}s and ${present.size} of ${nodes.length} nodes shown`,
  ];
  if (shown.size) {
    const least = Math.min(...[...shown].map((item) => Math.abs(item.score)));
    parts.push(`, |score| at least ${number(least)}`);
  }
  const weaker = items.length - state.count;
  if (weaker) parts.push(`; ${weaker} weaker ${unit}s left out`);
  if (data.left_out) parts.push(`; ${data.left_out} weaker edges are not in this page`);
  return parts.join("");
}

/* Only what was measured is said: for the whole circuit, and for the sizes of the curve. */
function faithfulness(shown) {
  const known = data.faithfulness;
  const isTop = shown.size === state.count;
  if (shown.size === items.length && !data.left_out) {
    if (known === null && data.measured) {
      return "faithfulness is undefined: the model does not distinguish the two runs";
    }
    if (known === null) return "faithfulness was not measured";
    return `faithfulness ${number(known)}, as measured`;
  }
  const point = data.curve.find(([count]) => isTop && count === shown.size);
  if (point) return `faithfulness ${number(point[1])}, as measured with the strongest ${point[0]}`;
  const near = data.curve.filter(([count]) => count < shown.size).pop();
  const hints = [
    "the faithfulness of what is shown was not measured",
    near && `the strongest ${near[0]} have ${number(near[1])}`,
    known !== null && `the whole circuit has ${number(known)}`,
  ];
  return hints.filter(Boolean).join("; ");
}

function pin(name) {
  state.pinned = state.pinned === name ? null : name;
  update();
}

function hover(name) {
  state.hovered = name;
  if (!state.pinned) update();
}
