/* The list of tools and the toolbar. */
import { find, make, icon, show, setStyle } from "./dom.js";
import { state, on, tell, remember, classOf } from "./store.js";
import { say } from "./say.js";

export const TOOLS = [
  { name: "brush", title: "Brush", key: "B", hint: "Draw strokes of the class" },
  { name: "point", title: "Point", key: "P", hint: "Click to put a point of the class" },
  { name: "box", title: "Box", key: "R", hint: "Drag a box around an object" },
  { name: "erase-stroke", title: "Erase strokes", key: "E", hint: "Click or cross strokes to remove them" },
  { name: "erase-brush", title: "Erase with the brush", key: "X", hint: "Rub out parts of the drawing" },
  { name: "accept", title: "Accept a region", key: "A", hint: "Click a region of the mask to make it a label" },
  { name: "pan", title: "Move the view", key: "H", hint: "Drag to move the view" },
];

const WIDEST = 200;

export function chooseTool(name) {
  const tool = TOOLS.find((entry) => entry.name === name);
  state.tool = name;
  remember();
  tell("tool");
  say(`${tool.title}. ${tool.hint}`);
}

/** The slider is finer for thin brushes: its position is the square root of the width. */
const widthOf = (position) => Math.max(1, Math.round(WIDEST * (position / 100) ** 2));
const positionOf = (width) => Math.round(100 * Math.sqrt(width / WIDEST));

let chosen = false; // whether somebody chose the width

export function setWidth(width) {
  state.width = Math.min(WIDEST, Math.max(1, Math.round(width)));
  remember();
  tell("tool");
}

export function changeWidth(direction) {
  const step = Math.max(1, Math.round(state.width * 0.2));
  chosen = true;
  setWidth(state.width + direction * step);
  say(`Width ${state.width} pixels`);
}

/** A width that suits images of this size, unless the present one does. */
function suitWidth(image) {
  const side = Math.min(image.width, image.height);
  const fits = state.width <= side / 8 && (state.width >= side / 400 || side < 400);
  if (!fits || !chosen) setWidth(Math.max(1, side / 60));
}

function update() {
  for (const button of find("tools").children) {
    const active = button.dataset.tool === state.tool;
    button.setAttribute("aria-pressed", String(active));
    button.tabIndex = active ? 0 : -1;
  }
  const tool = TOOLS.find((entry) => entry.name === state.tool);
  find("tool-hint").textContent = tool.hint;
  show(find("width-field"), ["brush", "point", "erase-brush"].includes(state.tool));
  find("width").value = String(positionOf(state.width));
  find("width-value").textContent = `${state.width} px`;
  find("width").setAttribute("aria-valuetext", `${state.width} pixels`);
  find("panes").dataset.tool = state.tool;
  const entry = classOf(state.classIndex);
  find("class-chip-name").textContent = entry?.name ?? "No class";
  setStyle(find("class-chip").querySelector(".swatch"), { "--colour": entry?.color ?? "transparent" });
}

/** Arrow keys move between the tools, as in every toolbar. */
function walk(event) {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  event.stopPropagation();
  const buttons = [...find("tools").children];
  const at = buttons.indexOf(document.activeElement);
  buttons[(at + step + buttons.length) % buttons.length].focus();
}

export function startTools(remembered) {
  chosen = remembered;
  for (const { name, title, key } of TOOLS) {
    const attributes = { class: "tool", type: "button", "data-tool": name, "aria-label": title, title: `${title} (${key})`, "aria-keyshortcuts": key };
    find("tools").append(make("button", { ...attributes, onclick: () => chooseTool(name) }, icon(name)));
  }
  find("tools").addEventListener("keydown", walk);
  find("width").addEventListener("input", () => {
    chosen = true;
    setWidth(widthOf(Number(find("width").value)));
  });
  on("image", suitWidth);
  on("tool class project", update);
  update();
}
