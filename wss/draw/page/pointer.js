/* Mouse, pen and touch on the panes: one pointer draws, two fingers move and zoom, the wheel zooms. */
import { find } from "./dom.js";
import { state } from "./store.js";
import { toImage, zoomBy, panBy } from "./view.js";
import { begin, acceptFromPrediction } from "./drawing.js";
import { live, invalidate, placeIn } from "./stage.js";
import { hideCrosshair } from "./crosshair.js";
import { stepSlice } from "./slices.js";
import { showPlace } from "./place.js";

const pointers = new Map(); // id -> last place in the pane
let gesture = null;
let drawing = null; // id of the pointer that draws
let panning = null; // id of the pointer that moves the view
let penSeen = false; // then fingers only move the view: the hand rests on the screen
let travelled = 0;

function pinch(event, place) {
  const [other] = [...pointers.entries()].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
  const [lastX, lastY] = pointers.get(event.pointerId);
  const before = Math.hypot(lastX - other[0], lastY - other[1]);
  const after = Math.hypot(place[0] - other[0], place[1] - other[1]);
  panBy((place[0] - lastX) / 2, (place[1] - lastY) / 2);
  if (before > 0) zoomBy(after / before, (place[0] + other[0]) / 2, (place[1] + other[1]) / 2);
}

function down(event, isSide) {
  const place = placeIn(event);
  event.currentTarget.setPointerCapture(event.pointerId);
  if (!isSide) {
    find("stage").dataset.by = "pointer"; // no focus ring for those who see where they draw
    find("stage").focus({ preventScroll: true });
  }
  hideCrosshair();
  penSeen ||= event.pointerType === "pen";
  pointers.set(event.pointerId, place);
  travelled = 0;
  if (pointers.size === 2) {
    gesture?.cancel();
    gesture = drawing = panning = null;
    return;
  }
  if (pointers.size > 2) return;
  const moves = event.button === 1 || event.button === 2 || state.tool === "pan" || (event.pointerType === "touch" && penSeen);
  if (moves || isSide) panning = event.pointerId;
  else if (event.button === 0) {
    gesture = begin(state.tool, toImage(...place));
    drawing = gesture ? event.pointerId : null;
  }
  event.preventDefault();
}

function move(event) {
  const place = placeIn(event);
  live.pointer = event.pointerType === "touch" ? null : { x: place[0], y: place[1] };
  showPlace(...toImage(...place));
  const last = pointers.get(event.pointerId);
  if (last) travelled += Math.hypot(place[0] - last[0], place[1] - last[1]);
  if (last && pointers.size === 2) pinch(event, place);
  else if (last && panning === event.pointerId) panBy(place[0] - last[0], place[1] - last[1]);
  else if (gesture && drawing === event.pointerId) {
    const box = event.currentTarget.getBoundingClientRect();
    const all = event.getCoalescedEvents?.() ?? [];
    const events = all.length ? all : [event];
    gesture.move(events.map((one) => toImage(one.clientX - box.left, one.clientY - box.top)));
  } else invalidate("live");
  if (last) pointers.set(event.pointerId, place);
}

function up(event, isSide) {
  pointers.delete(event.pointerId);
  if (panning === event.pointerId) {
    panning = null;
    if (isSide && travelled < 4 && event.button === 0 && state.tool === "accept") acceptFromPrediction(toImage(...placeIn(event)));
  }
  if (drawing !== event.pointerId) return;
  const ended = gesture;
  gesture = drawing = null;
  if (event.type === "pointercancel") ended?.cancel();
  else ended?.end();
}

function wheel(event) {
  event.preventDefault();
  const amount = event.deltaY || event.deltaX; // with Shift, browsers turn the wheel sideways
  if (event.shiftKey || event.altKey) {
    if (Math.abs(amount) > 1) stepSlice(Math.sign(amount));
    return;
  }
  const pixels = event.deltaMode === 1 ? amount * 30 : event.deltaMode === 2 ? amount * 300 : amount;
  const rate = event.ctrlKey ? 0.01 : 0.0022;
  zoomBy(Math.exp(-Math.max(-240, Math.min(240, pixels)) * rate), ...placeIn(event));
}

function listen(canvas, isSide) {
  canvas.addEventListener("pointerdown", (event) => down(event, isSide));
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", (event) => up(event, isSide));
  canvas.addEventListener("pointercancel", (event) => up(event, isSide));
  canvas.addEventListener("pointerleave", () => {
    live.pointer = null;
    showPlace(null);
    invalidate("live");
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", wheel, { passive: false });
}

/** Whether a pointer is drawing or moving the view just now. */
export const pointerIsBusy = () => pointers.size > 0 && (gesture !== null || panning !== null);

export function cancelGesture() {
  if (!gesture) return false;
  gesture.cancel();
  gesture = drawing = null;
  return true;
}

export function startPointer() {
  listen(find("stage"), false);
  listen(find("pane-side").querySelector(".layer-live"), true);
}
