/* What to do first: shown over the image while there is nothing to draw with, or nothing to draw on. */
import { find, make, show } from "./dom.js";
import { state, on } from "./store.js";
import { addClass, chooseClass } from "./classes.js";

async function submit(event) {
  event.preventDefault();
  const fields = [...event.currentTarget.querySelectorAll("input")];
  const names = fields.flatMap((field) => field.value.split(",")).map((name) => name.trim()).filter(Boolean);
  if (!names.length) {
    fields[0].focus();
    return;
  }
  const before = state.project.classes.length;
  for (const name of names) if (!(await addClass(name))) return;
  chooseClass(state.project.classes[before].index);
  find("stage").focus();
}

function askForClasses() {
  const field = make("input", { type: "text", id: "first-class", placeholder: "road, tree, car", maxlength: "300", autocomplete: "off" });
  return make(
    "form",
    { class: "empty-card", onsubmit: submit },
    make("h2", { text: "What do you want to segment?" }),
    make("p", { text: "Name the classes, with commas between them. Background is there already. Then draw a stroke or two in each class, and the mask follows." }),
    make("label", { for: "first-class", text: "Classes" }),
    make("div", { class: "row" }, field, make("button", { type: "submit", class: "button primary", text: "Begin" })),
  );
}

function noImages() {
  return make(
    "div",
    { class: "empty-card" },
    make("h2", { text: "No images here yet" }),
    make("p", { text: "Copy pictures into this folder, in images/ where it has one, and start wss draw again." }),
  );
}

let kind = "";
function update() {
  if (!state.project) return;
  const now = !state.project.images.length ? "images" : state.project.classes.every((entry) => entry.index === 0) ? "classes" : "";
  if (now === kind) return;
  kind = now;
  const place = find("empty");
  place.replaceChildren(...(now === "images" ? [noImages()] : now === "classes" ? [askForClasses()] : []));
  show(place, now !== "");
  if (now === "classes") find("first-class").focus();
}

export function startEmpty() {
  on("project", update);
}
