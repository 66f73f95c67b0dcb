/* Masks from strokes: asked for when a change is on disk. A newer question ends the older one. */
import { Away, Refused, imagePath, lines } from "./api.js";
import { decodeMask } from "./masks.js";
import { newId } from "./annotation.js";
import { unsentOf } from "./outbox.js";
import { state, on, tell } from "./store.js";
import { warn } from "./say.js";

const TAB = newId();
const LARGE = 4e6; // pixels; larger images are propagated where one looks
const REGION = 2048;

/** The newest mask: {mask, area, label, kind, ms, why}; `busy` is true while a better one is on its way. */
export const propagated = { mask: null, area: null, label: "", kind: null, ms: null, why: null, busy: false };

let ticket = 0;
let control = null;
let asked = null; // image, revision, method and region of the newest question
let penUp = null;
let seen = null; // the newest box that was visible

function change(fields) {
  const paints = "mask" in fields || "label" in fields;
  Object.assign(propagated, fields);
  tell(paints ? "mask" : "masking");
}

/** Note when a stroke ended, so that the time until its mask is painted can be told. */
export function startClock() {
  penUp = performance.now();
}

export const isLarge = (image) => Boolean(image?.width) && image.width * image.height > LARGE;

/** The part of a large image to propagate in: around what is visible; null is the whole, of which the server takes a reduced copy. */
function regionOf(image, box) {
  if (!isLarge(image)) return null;
  const [x0, y0] = [Math.max(0, box[0]), Math.max(0, box[1])];
  const [x1, y1] = [Math.min(image.width, box[2]), Math.min(image.height, box[3])];
  if (Math.max(x1 - x0, y1 - y0) > 1.25 * REGION) return null;
  const width = Math.min(REGION, image.width);
  const height = Math.min(REGION, image.height);
  const step = 256; // so that a small movement asks for nothing new
  const place = (centre, size, whole) => Math.max(0, Math.min(whole - size, Math.round((centre - size / 2) / step) * step));
  return { x: place((x0 + x1) / 2, width, image.width), y: place((y0 + y1) / 2, height, image.height), width, height };
}

async function take(line, mine, image) {
  if (line.kind === "stale") return;
  if (line.kind === "nothing") {
    change({ mask: null, label: `${line.revision ?? asked.revision}:nothing`, kind: "nothing", why: line.why, ms: null });
    return;
  }
  if (line.kind === "error") {
    change({ mask: null, label: "", kind: "error", why: line.error, ms: null });
    return;
  }
  const mask = await decodeMask(line.mask, line.certainty, true);
  if (mine !== ticket || state.image?.id !== image.id) return;
  const area = { x: line.x ?? 0, y: line.y ?? 0, width: line.width ?? image.width, height: line.height ?? image.height };
  change({ mask, area, label: `${line.revision ?? asked.revision}:${line.kind}`, kind: line.kind, why: null });
  const started = penUp;
  if (started === null || line.kind !== "full") return;
  penUp = null;
  requestAnimationFrame(() => setTimeout(() => change({ ms: performance.now() - started })));
}

/** Ask for the mask of the newest annotation, unless the same was asked before. */
export async function propagate({ box, again = false } = {}) {
  const { image, annotation, options } = state;
  if (!image?.width || !annotation || !options.method || unsentOf(image.id).length) return;
  if (box) seen = box;
  const region = regionOf(image, seen ?? [0, 0, image.width, image.height]);
  const question = { image: image.id, revision: annotation.revision, method: options.method, region };
  if (!again && JSON.stringify(question) === JSON.stringify(asked)) return;
  asked = question;
  const mine = ++ticket;
  control?.abort();
  control = new AbortController();
  const { signal } = control;
  change({ busy: true });
  const body = { revision: question.revision, method: question.method, tab: TAB, ticket: mine, ...(region && { region }) };
  try {
    for await (const line of lines(imagePath(image.id, "propagate"), body, signal)) {
      if (mine !== ticket) return;
      await take(line, mine, image);
    }
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Refused) change({ why: error.message, kind: "error" });
    else if (!(error instanceof Away)) warn(`The mask could not be shown: ${error.message}`, { key: "mask" });
    asked = null; // a later change or the return of the server asks again
  } finally {
    if (mine === ticket) change({ busy: false });
  }
}

export function forgetMask() {
  ticket++;
  control?.abort();
  asked = null;
  seen = null;
  penUp = null;
  change({ mask: null, area: null, label: "", kind: null, ms: null, why: null, busy: false });
}

/** The part that the newest question is about; null is the whole image. */
export const askedPart = () => asked?.region ?? null;

/** The part of a large image that the mask covers; null where there is no mask, or one of the whole image. */
export function coveredPart() {
  const { mask, area } = propagated;
  return mask && (area.width < state.image.width || area.height < state.image.height) ? area : null;
}

on("image", forgetMask);
