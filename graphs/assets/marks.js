"use strict";

/* Marks that a reader makes: pins, groups with a name and a note, all of it in the address. */

const marks = { pinned: [...data.view.pinned], groups: data.view.groups.map((g) => ({ ...g })) };
const past = [];
const TAGS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

const isGroup = (name) => typeof name === "string" && name.startsWith("group ");
const groupAt = (name) => marks.groups[Number(name.slice(6))];

/* Names that are looked at: what the pointer is on, else what was chosen, else what is pinned. */
function focused() {
  if (state.hovered) return new Set([state.hovered]);
  if (isGroup(state.chosen)) return new Set(groupAt(state.chosen)?.members);
  if (marks.pinned.length) return new Set(marks.pinned);
  return new Set(state.chosen ? [state.chosen] : []);
}

function change(act) {
  past.push(JSON.stringify(marks));
  act();
  remember();
  update();
}

function undo() {
  const last = past.pop();
  if (last === undefined) return say("there is nothing to undo");
  Object.assign(marks, JSON.parse(last));
  if (isGroup(state.chosen) && !groupAt(state.chosen)) state.chosen = null;
  remember();
  update();
}

/* A click on a node shows it and pins it; another click takes the pin out. */
function press(name) {
  const isPinned = marks.pinned.includes(name);
  change(() => {
    marks.pinned = isPinned ? marks.pinned.filter((n) => n !== name) : [...marks.pinned, name];
    state.chosen = isPinned ? marks.pinned.at(-1) || null : name;
    state.row = -1;
  });
  bringIntoView(name);
}

function clearPins() {
  state.chosen = state.place = null;
  if (marks.pinned.length) change(() => { marks.pinned = []; });
  else update();
  read();
}

function group(name, note) {
  if (!marks.pinned.length) {
    say("a supernode needs nodes: pin some by clicking them, then group them");
    return false;
  }
  change(() => {
    marks.groups.push({ name: name || "supernode", note, members: [...marks.pinned] });
    marks.pinned = [];
    state.chosen = `group ${marks.groups.length - 1}`;
  });
  return true;
}

function ungroup(order) {
  change(() => {
    marks.groups.splice(order, 1);
    state.chosen = null;
  });
}

function mark(node) {
  const isPinned = marks.pinned.includes(node.id);
  node.shape.setAttribute("aria-pressed", isPinned);
  node.shape.classList.toggle("pinned", isPinned);
  const within = marks.groups.flatMap((each, order) => each.members.includes(node.id)
    ? [TAGS[order % TAGS.length]] : []);
  node.shape.classList.toggle("grouped", within.length > 0);
  node.tag.textContent = within.join("");
}

/* The address after its # says what is looked at, so that a link opens the same view. */
function remember() {
  const words = new URLSearchParams();
  words.set("step", step().asked);
  if (state.prompt) words.set("prompt", state.prompt + 1);
  if (marks.pinned.length) words.set("pin", JSON.stringify(marks.pinned));
  if (marks.groups.length) words.set("groups", JSON.stringify(marks.groups));
  if (state.chosen) words.set("at", state.chosen);
  // A page inside a notebook has no address of its own to change.
  try { history.replaceState(null, "", `#${words}`); } catch { /* nothing is lost but the link */ }
}

/* Reads the address; what it names and this page does not have is passed over. */
function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  const asked = Number(words.get("step"));
  const at = data.steps.findIndex((each) => each.asked === asked);
  if (at >= 0) state.step = at;
  const prompt = Number(words.get("prompt")) - 1;
  if (data.prompts[prompt]) state.prompt = prompt;
  const known = (list) => (Array.isArray(list) ? list.filter((name) => byName.has(name)) : []);
  const listed = (name) => {
    try { return JSON.parse(words.get(name) || "[]"); } catch { return []; }
  };
  if (words.has("pin")) marks.pinned = known(listed("pin"));
  if (words.has("groups")) {
    const given = listed("groups");
    marks.groups = (Array.isArray(given) ? given : []).flatMap((each) => {
      const members = known(each?.members);
      return members.length ? [{ name: String(each.name), note: String(each.note), members }] : [];
    });
  }
  const chosen = words.get("at");
  if (byName.has(chosen) || byItem.has(chosen) || (isGroup(chosen) && groupAt(chosen))) {
    state.chosen = chosen;
  }
}
