/* Tell the person what happened: the status line, which screen readers read aloud, and alerts for what went wrong. */
import { find, make, icon, sentence } from "./dom.js";

/** One short sentence in the status line. */
export function say(text) {
  find("status").textContent = text;
}

/** Show an alert until it is closed; one with the same key replaces the earlier one. */
export function warn(text, { key = text, seconds = 12, actions = [] } = {}) {
  unwarn(key);
  const close = make("button", { class: "tool", type: "button", "aria-label": "Close this message", onclick: () => unwarn(key) }, icon("remove"));
  const buttons = actions.map(({ title, act }) =>
    make("button", { class: "button", type: "button", text: title, onclick: () => (unwarn(key), act()) }),
  );
  const entry = make("div", { class: "alert", "data-key": key }, make("p", { text: sentence(text) }), ...buttons, close);
  find("alerts").append(entry);
  if (seconds) setTimeout(() => entry.remove(), seconds * 1000);
}

export function unwarn(key) {
  for (const entry of find("alerts").children) if (entry.dataset.key === key) entry.remove();
}

const SAVED = { idle: "Loading", saving: "Saving", saved: "Saved", away: "Not saved", silent: "Server away" };

/** The state of saving beside the title: "saved" is said only after the server has answered. */
export function saySaved(state, text = SAVED[state]) {
  const element = find("saved");
  if (element.dataset.state === state && find("saved-text").textContent === text) return;
  element.dataset.state = state;
  find("saved-text").textContent = text;
}
