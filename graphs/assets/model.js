"use strict";

/* What the page holds, and which of it is shown. */

const data = JSON.parse(document.getElementById("data").textContent);
const { nodes, edges, graph: info } = data.circuit;

/* Text only ever enters the page through textContent and attributes. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

const template = document.createElement("template");
template.innerHTML = "<svg></svg>";
const namespace = template.content.firstChild.namespaceURI;

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(namespace, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const isNodes = info.level === "node";
const unit = isNodes ? "node" : "edge";
const isScored = (item) => typeof item.score === "number";
const items = isNodes ? nodes.filter(isScored) : edges;
const byName = new Map(nodes.map((node) => [node.id, node]));
const largest = Math.max(...items.map((item) => Math.abs(item.score)), 0) || 1;

const ranked = [...items].sort((a, b) => Math.abs(b.score) - Math.abs(a.score));
ranked.forEach((item, index) => { item.rank = index; });

const share = (item) => Math.abs(item.score) / largest;
const tone = (item) => (item.score < 0 ? "negative" : "positive");
const number = (value) => Number(value.toPrecision(3)).toString().replace("-", "\u2212");
const edgeName = ({ source, target, key }) => `${source}->${target}${key ? `<${key}>` : ""}`;
const itemName = (item) => (isNodes ? item.id : edgeName(item));
const byItem = new Map(items.map((item) => [itemName(item), item]));
const plural = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

/* The position a node is tied to, or null; and its name without it. */
function placeOf(node) {
  const mark = node.id.indexOf("@");
  return mark < 0 ? null : node.id.slice(mark + 1);
}

const bare = (name) => name.split("@")[0];

const state = {
  step: data.opening,
  query: "",
  chosen: null,
  hovered: null,
  place: null,
  prompt: 0,
  look: "clean",
  row: -1,
  off: new Set(),
};

/* What the step holds: edges, or of a circuit of nodes its scored nodes. */
const step = () => data.steps[state.step];
const held = data.steps.map(({ items: numbers }) => new Set(numbers.map((at) => items[at])));

function isOn(item) {
  if (!held[state.step].has(item) || state.off.has(tone(item))) return false;
  if (state.off.has("shared") && data.other.includes(itemName(item))) return false;
  if (isNodes) return !state.off.has(item.kind) && isHere(item);
  if (state.off.has(`port ${item.key}`)) return false;
  const ends = [byName.get(item.source), byName.get(item.target)];
  return !ends.some((end) => state.off.has(end.kind)) && ends.some(isHere);
}

function isHere(node) {
  return state.place === null || placeOf(node) === state.place;
}

/* Names of the nodes to draw: those shown edges touch, and the two ends of the model. */
function nodesOn(shown) {
  const placed = nodes.filter((node) => node.id in step().spots);
  if (isNodes) {
    return new Set(placed.filter((n) => !isScored(n) || shown.has(n)).map((n) => n.id));
  }
  const whole = state.off.size === 0 && state.place === null;
  const names = placed.filter((n) => whole || ["input", "logit", "logits"].includes(n.kind)).map((n) => n.id);
  for (const edge of shown) names.push(edge.source, edge.target);
  return new Set(names);
}

const about = (node) => {
  const score = isScored(node) ? `, score ${number(node.score)}` : "";
  return `${node.id}: ${node.kind === "mlp" ? "MLP" : node.kind}${score}`;
};

function update() {
  arrange();
  const shown = new Set(items.filter(isOn));
  const present = nodesOn(shown);
  paint(shown, present);
  describe(shown, present);
  drawCurve();
}
