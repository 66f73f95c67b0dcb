/* Shortcuts: one table for the keys and for the dialog that explains them. */
import { find, make, takesText } from "./dom.js";
import { state, remember } from "./store.js";
import { fit, panBy, zoomBy, zoomTo } from "./view.js";
import { undo, redo } from "./annotation.js";
import { TOOLS, chooseTool, changeWidth } from "./tools.js";
import { chooseNth } from "./classes.js";
import { stepImage, openProposed } from "./images.js";
import { stepSlice } from "./slices.js";
import { chooseSource, changeOpacity, setOption, toggle } from "./options.js";
import { openExport } from "./exporting.js";
import { cancelGesture } from "./pointer.js";
import { dropLine, finishLine, hideCrosshair, moveCrosshair, press, takeBack } from "./crosshair.js";
import { say } from "./say.js";

const STYLES = { both: "fill", fill: "outline", outline: "both" };

function nextStyle() {
  setOption("style", STYLES[state.options.style]);
  say({ both: "Mask as fill with outline", fill: "Mask as fill", outline: "Mask as outline" }[state.options.style]);
}

const switchTo = (source) => chooseSource(state.options.source === source ? "propagation" : source);

/** Single keys: [keys, what is shown in the dialog, action]. Letters work with and without Caps Lock. */
const SINGLE = [
  ...TOOLS.map(({ name, title, key }) => [[key.toLowerCase()], "Tools", title, () => chooseTool(name)]),
  [["["], "Drawing", "Thinner brush", () => changeWidth(-1)],
  [["]"], "Drawing", "Wider brush", () => changeWidth(1)],
  [["n"], "Images", "Image that helps most", () => void openProposed()],
  [["j", "PageDown"], "Images", "Next image in the list", () => stepImage(1)],
  [["k", "PageUp"], "Images", "Previous image in the list", () => stepImage(-1)],
  [["."], "Images", "Next slice", () => stepSlice(1)],
  [[","], "Images", "Previous slice", () => stepSlice(-1)],
  [["+", "="], "View", "Zoom in", () => zoomBy(1.25)],
  [["-"], "View", "Zoom out", () => zoomBy(0.8)],
  [["0"], "View", "Fit the image", fit],
  [["m"], "Mask", "Mask on or off", () => switchTo("off")],
  [["v"], "Mask", "Prediction or propagated mask", () => switchTo("prediction")],
  [["s"], "Mask", "Side by side", () => toggle("beside")],
  [["u"], "Mask", "Uncertainty", () => toggle("unsure")],
  [["o"], "Mask", "Fill, outline or both", nextStyle],
  [["t"], "Mask", "Patterns", () => toggle("patterns")],
  [["d"], "Mask", "Drawing on or off", () => toggle("ink")],
  [["<"], "Mask", "More transparent", () => changeOpacity(-0.1)],
  [[">"], "Mask", "More opaque", () => changeOpacity(0.1)],
  [["?"], "Other", "This list", () => find("dialog-shortcuts").showModal()],
];

const OTHERS = [
  ["Drawing", "1 to 9", "Class"],
  ["Drawing", "Ctrl+Z", "Undo"],
  ["Drawing", "Ctrl+Shift+Z", "Redo"],
  ["Drawing", "Escape", "Drop what is being drawn"],
  ["By keyboard", "Arrows", "Move the crosshair, or the view (H)"],
  ["By keyboard", "Shift+Arrows", "Move it by one pixel"],
  ["By keyboard", "Ctrl+Arrows", "Move it far"],
  ["By keyboard", "Space", "Put a point, a corner; erase or accept"],
  ["By keyboard", "Enter", "End the line"],
  ["By keyboard", "Backspace", "Take the last point back"],
  ["Mouse and touch", "Wheel", "Zoom"],
  ["Mouse and touch", "Shift+Wheel", "Slices"],
  ["Mouse and touch", "Right or middle button", "Move the view"],
  ["Mouse and touch", "Two fingers", "Zoom and move"],
  ["Other", "Ctrl+E", "Export"],
  ["View", "Shift+0", "One to one"],
];

const PAN = 60; // pixels of the screen
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Keys of the drawing area itself. Returns whether the key was used. */
function onStage(event) {
  if (event.key in ARROWS) {
    const [x, y] = ARROWS[event.key];
    if (state.tool === "pan") panBy(-PAN * x, -PAN * y);
    else moveCrosshair(x, y, { fine: event.shiftKey, far: event.ctrlKey || event.metaKey });
    return true;
  }
  if (event.key === " ") press();
  else if (event.key === "Enter") finishLine();
  else if (event.key === "Backspace") return takeBack();
  else if (event.key === "Escape") {
    if (!cancelGesture() && !dropLine()) hideCrosshair();
  } else return false;
  return true;
}

function withControl(event) {
  const key = event.key.toLowerCase();
  if (key === "z") event.shiftKey ? redo() : undo();
  else if (key === "y") redo();
  else if (key === "e") openExport();
  else return false;
  return true;
}

function single(event) {
  if (!state.singleKeys || event.altKey) return false;
  if (event.shiftKey && event.code === "Digit0") {
    zoomTo(1 / (window.devicePixelRatio || 1));
    return true;
  }
  if (/^[1-9]$/.test(event.key)) {
    chooseNth(Number(event.key));
    return true;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const found = SINGLE.find(([keys]) => keys.includes(key));
  found?.[3]();
  return Boolean(found);
}

function handle(event) {
  if (event.defaultPrevented || event.isComposing || takesText(event.target)) return;
  delete find("stage").dataset.by;
  if (event.target === find("stage") && onStage(event)) event.preventDefault();
  else if (event.ctrlKey || event.metaKey) {
    if (withControl(event)) event.preventDefault();
  } else if (single(event)) event.preventDefault();
}

function fillDialog() {
  const rows = [...SINGLE.map(([keys, group, title]) => [group, keys.map((key) => (key.length === 1 ? key.toUpperCase() : key)).join(" or "), title]), ...OTHERS];
  const groups = [...new Set(rows.map(([group]) => group))];
  for (const group of groups) {
    const list = make("dl", {});
    for (const [, keys, title] of rows.filter(([name]) => name === group)) {
      list.append(make("div", {}, make("dt", {}, make("kbd", { text: keys })), make("dd", { text: title })));
    }
    find("shortcut-list").append(make("section", {}, make("h3", { text: group }), list));
  }
}

export function startKeys() {
  fillDialog();
  document.addEventListener("keydown", handle);
  find("open-shortcuts").addEventListener("click", () => find("dialog-shortcuts").showModal());
  find("single-keys").checked = state.singleKeys;
  find("single-keys").addEventListener("change", () => {
    state.singleKeys = find("single-keys").checked;
    remember();
  });
  for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
}
