"use strict";

/* What only a served page can do: ask the model for an attention pattern, and cut parts. */

state.cuts = [];
state.cut = null;
const asked = new Set();

async function ask(what, words) {
  const answer = await fetch(`${what}?${new URLSearchParams({ token: data.served, ...words })}`);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

async function fetchAttention(head) {
  const row = state.prompt, key = `${head} ${row}`;
  if (asked.has(key)) return;
  asked.add(key);
  try {
    data.prompts[row].attention[head] = await ask("attention", { head, prompt: row });
    update();
  } catch (error) {
    say(`no attention: ${error.message}`);
  }
}

function servedControls() {
  if (!data.served || !state.cuts.length) return [];
  const told = state.cut ? `, metric ${number(state.cut.metric[0])} \u2192 ${number(state.cut.metric[1])}`
    : "";
  return [make("p", { id: "cuts" }, `cut: ${state.cuts.join(", ")}${told} `,
    button("put all back", () => cutAll([]), { id: "uncut" }))];
}

function cutButton(name) {
  const kind = byName.get(name)?.kind;
  if (!data.served || ["input", "latent", "error", "logit", "logits"].includes(kind)) return [];
  const isCut = state.cuts.includes(name);
  const turn = () => cutAll(isCut ? state.cuts.filter((n) => n !== name) : [...state.cuts, name]);
  return [make("p", {}, button(isCut ? "put back" : "cut this", turn, { id: "cut" })),
    ...servedControls()];
}

/* The words' probabilities with these parts cut; cutting nothing asks nothing. */
async function cutAll(names) {
  state.cuts = names;
  state.cut = null;
  update();
  if (!names.length) return;
  const row = state.prompt;
  try {
    const found = await ask("cut", { parts: JSON.stringify(names), prompt: row });
    if (row === state.prompt && names === state.cuts) state.cut = found;
    say(`cut ${names.join(", ")}: metric ${number(found.metric[0])} \u2192 ${number(found.metric[1])}`);
  } catch (error) {
    say(`nothing was cut: ${error.message}`);
    state.cuts = names.slice(0, -1);
  }
  update();
}
