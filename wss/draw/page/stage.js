/* Paints the panes, once per frame and only the layers that changed. */
import { find, show } from "./dom.js";
import { state, on, classOf } from "./store.js";
import { view, resizePane, toScreen } from "./view.js";
import { Pane } from "./pane.js";
import { drawTiles } from "./tiles.js";
import { drawObject, drawObjects } from "./ink.js";
import { paintMask } from "./masks.js";
import { visibleObjects } from "./annotation.js";
import { coveredPart, propagated } from "./propagation.js";
import { predicted } from "./prediction.js";
import { truth } from "./truth.js";
import { base } from "./base.js";

const main = new Pane(find("pane"));
const side = new Pane(find("pane-side"));
const dirty = new Set();
let asked = false;
let framed = ""; // part of a large image that is framed
let inked = ""; // objects that the drawing shows, or will show after the next frame

/** Cursor, crosshair and the object that is being drawn; changed by the tools. */
export const live = { object: null, marked: new Set(), pointer: null, crosshair: null };

export function invalidate(...names) {
  for (const name of names) dirty.add(name);
  if (asked) return;
  asked = true;
  requestAnimationFrame(paint);
}

const everything = () => invalidate("image", "mask", "ink", "live");

export const sideIsShown = () => state.options.beside && state.image !== null;

/** The mask that the main pane shows: {mask, area} or null. */
export function shownMask() {
  if (state.options.source === "off") return null;
  if (state.options.source === "prediction" && !sideIsShown()) return predicted.mask ? predicted : null;
  if (state.options.source === "truth" && truth.mask) return truth;
  return propagated.mask ? propagated : null;
}

const painted = new WeakMap(); // mask -> {signature, canvas}

function pictureOf(mask) {
  const { style, patterns, unsure } = state.options;
  const signature = JSON.stringify([style, patterns, unsure, state.project.classes]);
  const known = painted.get(mask);
  if (known?.signature === signature) return known.canvas;
  const canvas = paintMask(mask, state.project.classes, state.options);
  painted.set(mask, { signature, canvas });
  return canvas;
}

function paintImage(pane) {
  const context = pane.start("image");
  const { brightness, contrast } = state.options;
  const plain = state.image.bits === 16 || (brightness === 100 && contrast === 100);
  pane.style("image", { filter: plain ? "none" : `brightness(${brightness}%) contrast(${contrast}%)` });
  const scale = view.zoom * (window.devicePixelRatio || 1);
  context.imageSmoothingEnabled = scale < 1;
  drawTiles(context, state.image, pane.visible(), scale);
}

function paintMaskLayer(pane, shown) {
  pane.style("mask", { opacity: String(state.options.opacity) });
  pane.drawMask(shown ? pictureOf(shown.mask) : null, shown?.area);
}

/** The part of a large image in which the mask is computed. */
function paintRegion(context) {
  const region = coveredPart();
  if (!region || state.options.source !== "propagation") return;
  context.save();
  context.lineWidth = 1.5 / view.zoom;
  for (const [colour, offset] of [
    ["#000000", 0],
    ["#ffffff", 6],
  ]) {
    context.setLineDash([6 / view.zoom, 6 / view.zoom]);
    context.lineDashOffset = offset / view.zoom;
    context.strokeStyle = colour;
    context.strokeRect(region.x, region.y, region.width, region.height);
  }
  context.restore();
}

function paintInk() {
  const context = main.start("ink");
  if (!state.options.ink || !state.annotation) return;
  context.save();
  context.beginPath();
  context.rect(0, 0, state.image.width, state.image.height);
  context.clip();
  if (base.picture) {
    context.imageSmoothingEnabled = false;
    context.drawImage(base.picture, 0, 0, state.image.width, state.image.height);
  }
  const objects = visibleObjects();
  const erasing = live.object?.kind === "erase" ? [live.object] : [];
  drawObjects(context, [...objects, ...erasing], 1 / view.zoom, live.marked);
  context.restore();
  paintRegion(context);
}

function ring(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, Math.max(radius, 1), 0, 2 * Math.PI);
}

function paintCursor(context) {
  const { pointer } = live;
  if (!pointer || !["brush", "erase-brush", "point"].includes(state.tool)) return;
  const ratio = window.devicePixelRatio || 1;
  const radius = (state.width / 2) * view.zoom;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  for (const [colour, width] of [
    ["rgba(0,0,0,0.7)", 3],
    ["#ffffff", 1.25],
  ]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    ring(context, pointer.x, pointer.y, radius);
    context.stroke();
  }
  if (state.tool !== "erase-brush" && radius > 3) {
    context.fillStyle = classOf(state.classIndex)?.color ?? "#888888";
    ring(context, pointer.x, pointer.y, 2);
    context.fill();
  }
}

function paintCrosshair(context) {
  if (!live.crosshair) return;
  const ratio = window.devicePixelRatio || 1;
  const [x, y] = toScreen(live.crosshair.x, live.crosshair.y);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const arms = new Path2D(`M${x - 22} ${y}H${x - 5}M${x + 5} ${y}H${x + 22}M${x} ${y - 22}V${y - 5}M${x} ${y + 5}V${y + 22}`);
  for (const [colour, width] of [
    ["#000000", 4],
    ["#ffffff", 1.5],
  ]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke(arms);
  }
  context.strokeStyle = "#ffffff";
  context.lineWidth = 1;
  ring(context, x, y, Math.max(2, (state.width / 2) * view.zoom));
  context.stroke();
}

function paintLive() {
  const context = main.start("live");
  if (live.object && live.object.kind !== "erase") drawObject(context, live.object, 1 / view.zoom);
  paintCursor(context);
  paintCrosshair(context);
}

function paint() {
  asked = false;
  const names = new Set(dirty);
  dirty.clear();
  const two = sideIsShown();
  if (!state.image?.width || !state.project) {
    for (const name of ["image", "mask", "ink", "live"]) main.start(name);
    return;
  }
  if (names.has("image")) paintImage(main);
  if (names.has("mask")) paintMaskLayer(main, shownMask());
  if (names.has("ink")) paintInk();
  if (names.has("live")) paintLive();
  if (two) {
    if (names.has("image")) paintImage(side);
    if (names.has("mask")) paintMaskLayer(side, predicted.mask ? predicted : null);
  }
  if (names.has("mask")) main.element.dataset.painted = shownMask()?.label ?? "";
}

function arrange() {
  show(side.element, sideIsShown());
  show(find("pane-name"), sideIsShown());
  const resized = [main.resize(), sideIsShown() && side.resize()];
  resizePane(main.element.clientWidth, main.element.clientHeight);
  if (resized.some(Boolean)) everything();
}

export function startStage() {
  const watcher = new ResizeObserver(arrange);
  watcher.observe(main.element);
  watcher.observe(side.element);
  window.addEventListener("resize", arrange); // also when the window moves to a screen of another density
  on("view image project", everything);
  on("tiles", () => invalidate("image"));
  on("mask", () => {
    const now = JSON.stringify(coveredPart());
    invalidate("mask", ...(now === framed ? [] : ["ink"]));
    framed = now;
  });
  on("base", () => invalidate("ink"));
  on("annotation", () => {
    const now = [state.image?.id, ...visibleObjects().map((object) => object.id)].join(" ");
    if (now === inked) return;
    inked = now;
    invalidate("ink");
  });
  on("tool", () => invalidate("live"));
  on("options image", () => {
    arrange();
    everything();
  });
  arrange();
}

/** The place of a pointer event inside its pane, in CSS pixels. */
export function placeIn(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

export const visibleBox = () => main.visible();
