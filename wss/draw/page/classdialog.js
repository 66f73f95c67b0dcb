/* The dialog that edits classes: names, colours, patterns; adding and removing. */
import { find, make, icon } from "./dom.js";
import { state } from "./store.js";
import { PATTERNS, proposeColour, proposePattern } from "./colours.js";
import { sendClasses, sent, swatch } from "./classes.js";
import { say } from "./say.js";
import { setStyle } from "./dom.js";

let rows = []; // {index, element}

function rowOf(entry) {
  const fixed = entry.index !== null && entry.index < (state.project.classes_fixed ?? 0);
  const name = make("input", { type: "text", value: entry.name, maxlength: "60", required: true, "aria-label": "Name of the class", readonly: fixed });
  const colour = make("input", { type: "color", value: entry.color, "aria-label": `Colour of ${entry.name || "the class"}` });
  const pattern = make("select", { "aria-label": `Pattern of ${entry.name || "the class"}` });
  PATTERNS.forEach((title, value) => pattern.append(make("option", { value: String(value), text: title })));
  pattern.value = String(entry.pattern);
  const sample = swatch(entry);
  const show = () => {
    sample.dataset.pattern = pattern.value;
    setStyle(sample, { "--colour": colour.value });
  };
  colour.addEventListener("input", show);
  pattern.addEventListener("change", show);
  const remove = make("button", { type: "button", class: "tool", "aria-label": `Remove ${entry.name || "the class"}`, title: "Remove", disabled: fixed }, icon("remove"));
  const element = make("div", { class: "class-edit" }, sample, name, colour, pattern, remove);
  const row = { index: entry.index, element, name, colour, pattern };
  remove.addEventListener("click", () => {
    rows = rows.filter((other) => other !== row);
    element.remove();
    find("class-row-add").focus();
  });
  return row;
}

function addRow(entry) {
  const row = rowOf(entry);
  rows.push(row);
  find("class-rows").append(row.element);
  return row;
}

const listed = () => rows.map(({ index, name, colour, pattern }) => ({ index, name: name.value.trim(), color: colour.value, pattern: Number(pattern.value) }));

export function editClasses() {
  rows = [];
  find("class-rows").replaceChildren();
  find("classes-error").textContent = "";
  for (const entry of state.project.classes) addRow(sent(entry));
  find("dialog-classes").showModal();
}

export function startClassDialog() {
  find("edit-classes").addEventListener("click", editClasses);
  find("class-row-add").addEventListener("click", () => {
    const row = addRow({ index: null, name: "", color: proposeColour(listed()), pattern: proposePattern(listed()) });
    row.name.focus();
  });
  find("classes-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const problem = await sendClasses(listed());
    find("classes-error").textContent = problem ?? "";
    if (problem) return;
    find("dialog-classes").close();
    say("Classes saved");
  });
}
