/* The classes at the right: which one is drawn, tags of the image, and adding a class. */
import { Away, Refused, call } from "./api.js";
import { find, make, icon, setStyle } from "./dom.js";
import { state, on, tell, classOf } from "./store.js";
import { proposeColour, proposePattern } from "./colours.js";
import { toggleTag, visibleTags } from "./annotation.js";
import { say, warn } from "./say.js";

export function chooseClass(index) {
  if (!classOf(index)) return;
  state.classIndex = index;
  tell("class");
  say(`Class ${classOf(index).name}`);
}

/** The class at a place of the list, as the keys 1 to 9 name it. */
export function chooseNth(number) {
  const entry = state.project?.classes[number - 1];
  if (entry) chooseClass(entry.index);
  else say(`There is no class ${number}`);
}

/** A swatch with the colour and the pattern of a class. */
export function swatch(entry) {
  const element = make("span", { class: "swatch", "data-pattern": String(entry.pattern ?? 0), "aria-hidden": "true" });
  setStyle(element, { "--colour": entry.color });
  return element;
}

function rowOf(entry, place) {
  const chosen = entry.index === state.classIndex;
  const choose = make(
    "button",
    { type: "button", class: "class-row", "aria-pressed": String(chosen), "data-class": String(entry.index), onclick: () => chooseClass(entry.index) },
    swatch(entry),
    make("span", { class: "class-name", text: entry.name }),
    place < 9 ? make("kbd", { text: String(place + 1), "aria-hidden": "true" }) : null,
  );
  const tagged = (visibleTags() ?? []).includes(entry.index);
  const label = `Tag: the image shows ${entry.name}`;
  const tag = make(
    "button",
    { type: "button", class: "tool tag", "aria-pressed": String(tagged), "aria-label": label, title: label, onclick: () => toggleTag(entry.index) },
    icon("tag"),
  );
  return make("li", {}, choose, tag);
}

let listed = ""; // what the list shows: strokes change nothing in it

function update() {
  if (!state.project) return;
  const now = JSON.stringify([state.project.classes, state.classIndex, visibleTags()]);
  if (now === listed) return;
  listed = now;
  const focus = document.activeElement?.closest("#class-list [data-class]")?.dataset.class;
  const tagFocus = document.activeElement?.classList.contains("tag") ? document.activeElement.getAttribute("aria-label") : null;
  find("class-list").replaceChildren(...state.project.classes.map(rowOf));
  if (focus) find("class-list").querySelector(`[data-class="${focus}"]`)?.focus();
  if (tagFocus) [...find("class-list").querySelectorAll(".tag")].find((one) => one.getAttribute("aria-label") === tagFocus)?.focus();
}

/** Take over classes that the server sent, and draw the first that is not background unless one is chosen. */
export function takeClasses({ classes, classes_revision: revision }) {
  state.project.classes = classes;
  state.project.classes_revision = revision;
  if (!classOf(state.classIndex)) {
    state.classIndex = (classes.find((entry) => entry.index > 0) ?? null)?.index ?? null;
  }
  tell("project");
  tell("class");
}

/** Send a new list of classes. Returns an error in words, or null when the server has it. */
export async function sendClasses(classes) {
  try {
    const answer = await call("PUT", "/api/classes", { revision: state.project.classes_revision, classes });
    takeClasses(answer);
    return null;
  } catch (error) {
    if (error instanceof Refused) {
      if (error.body.classes) takeClasses(error.body);
      return error.message;
    }
    if (error instanceof Away) return "The server is away: the classes were not changed.";
    throw error;
  }
}

export const sent = ({ index, name, color, pattern }) => ({ index, name, color, pattern });

/** Add a class by name. Returns whether the server has it. */
export async function addClass(name) {
  const { classes } = state.project;
  const added = { index: null, name: name.trim(), color: proposeColour(classes), pattern: proposePattern(classes) };
  if (!added.name) return false;
  const problem = await sendClasses([...classes.map(sent), added]);
  if (problem) warn(problem, { key: "classes" });
  else chooseClass(state.project.classes.at(-1).index);
  return !problem;
}

export function startClasses() {
  find("add-class").addEventListener("submit", async (event) => {
    event.preventDefault();
    const field = find("add-class-name");
    if (await addClass(field.value)) field.value = "";
    field.focus();
  });
  on("project class annotation", update);
}
