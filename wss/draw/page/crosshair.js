/* Drawing without a pointer: a crosshair that arrow keys move, Space puts points, Enter ends. */
import { state, on } from "./store.js";
import { view, toImage, reveal } from "./view.js";
import { begin } from "./drawing.js";
import { live, invalidate } from "./stage.js";
import { describe, showPlace } from "./place.js";
import { say } from "./say.js";

const STEP = 12; // pixels of the screen; with Shift one pixel of the image
const FAR = 60;
const SPOKEN_AFTER_MS = 350;

let gesture = null; // that was begun by the keyboard
let corners = []; // places put so far
let timer = null;

function place() {
  if (!live.crosshair) {
    const [x, y] = toImage(view.width / 2, view.height / 2);
    const { width, height } = state.image;
    live.crosshair = { x: Math.floor(Math.min(width, Math.max(0, x))), y: Math.floor(Math.min(height, Math.max(0, y))) };
  }
  return [live.crosshair.x, live.crosshair.y];
}

function rubber() {
  if (!gesture) return;
  const at = place();
  if (gesture.object?.points) {
    gesture.object.points = [...corners, at];
    invalidate("live", "ink");
  } else gesture.move([at]);
}

export function moveCrosshair(dx, dy, { fine = false, far = false } = {}) {
  if (!state.image?.width) return;
  const step = fine ? 1 : Math.max(1, Math.round((far ? FAR : STEP) / view.zoom));
  const [x, y] = place();
  live.crosshair.x = Math.min(state.image.width, Math.max(0, x + dx * step));
  live.crosshair.y = Math.min(state.image.height, Math.max(0, y + dy * step));
  reveal(...place());
  rubber();
  showPlace(...place());
  clearTimeout(timer);
  timer = setTimeout(() => live.crosshair && say(`Crosshair at ${describe(...place())}`), SPOKEN_AFTER_MS);
  invalidate("live");
}

/** Space: put a point, begin or go on with a line, put a corner of a box, erase or accept here. */
export function press() {
  if (!state.image?.width || state.tool === "pan") return;
  const at = place();
  clearTimeout(timer);
  if (gesture) {
    corners.push(at);
    if (state.tool === "box") finishLine();
    else {
      rubber();
      say(`Point ${corners.length} of the line. Enter ends it, Escape drops it`);
    }
    return;
  }
  gesture = begin(state.tool, at);
  if (!gesture) return;
  corners = [at];
  if (["brush", "erase-brush"].includes(state.tool)) {
    gesture.met = true;
    say("Line begun. Move and press Space for more points, Enter to end it");
  } else if (state.tool === "box") say("First corner. Move and press Space for the other one");
  else finishLine();
  invalidate("live");
}

/** Enter: end the line at its last point; with nothing begun, like Space. */
export function finishLine() {
  if (!gesture) {
    press();
    if (!gesture || state.tool === "box") return;
  }
  const ended = gesture;
  if (ended.object?.points) {
    const at = place();
    const last = corners[corners.length - 1];
    ended.object.points = last[0] === at[0] && last[1] === at[1] ? corners : [...corners, at];
  }
  gesture = null;
  corners = [];
  ended.end();
}

/** Backspace: take the last point of the line back. Returns whether there was one. */
export function takeBack() {
  if (!gesture) return false;
  if (corners.length <= 1) return dropLine();
  corners.pop();
  rubber();
  say(`Point taken back, ${corners.length} left`);
  return true;
}

export function dropLine() {
  if (!gesture) return false;
  gesture.cancel();
  gesture = null;
  corners = [];
  say("Dropped");
  return true;
}

export function hideCrosshair() {
  dropLine();
  if (!live.crosshair) return;
  live.crosshair = null;
  invalidate("live");
}

on("image", () => {
  dropLine();
  live.crosshair = null;
});
on("tool", dropLineOfOtherTool);

let toolOfLine = state.tool;
function dropLineOfOtherTool() {
  if (toolOfLine !== state.tool) dropLine();
  toolOfLine = state.tool;
}
