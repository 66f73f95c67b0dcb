/* The annotation of the image that is shown: what the server confirmed, and over it what is still on its way. */
import { Away, Refused } from "./api.js";
import { state, on, tell, className } from "./store.js";
import { send, refresh, newestOf, unsentOf } from "./outbox.js";
import { say, warn } from "./say.js";
import { forgetRegions } from "./regions.js";
import { counted } from "./dom.js";

/** A new identifier; the page makes those of objects, so that a repeated request adds nothing twice. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Objects as they will be once the server has everything. */
export function visibleObjects() {
  if (!state.annotation) return [];
  let { objects } = state.annotation;
  for (const change of unsentOf(state.image.id)) {
    if (change.op === "add") {
      const there = new Set(objects.map((object) => object.id));
      objects = [...objects, ...(change.objects ?? [change.object]).filter((object) => !there.has(object.id))];
    } else if (change.op === "remove") {
      objects = objects.filter((object) => !change.ids.includes(object.id));
    }
  }
  return objects;
}

export function visibleTags() {
  const changes = state.image ? unsentOf(state.image.id).filter((change) => change.op === "tags") : [];
  return changes.length ? changes.at(-1).tags : (state.annotation?.tags ?? null);
}

export async function openAnnotation(image) {
  state.annotation = newestOf(image.id);
  forgetRegions();
  tell("annotation");
  try {
    await refresh(image.id);
  } catch (error) {
    if (error instanceof Refused) warn(error.message);
    else if (!(error instanceof Away)) throw error;
  }
}

const NAMES = { stroke: "Stroke", point: "Point", box: "Box", erase: "Erased with the brush" };

export function addObject(object) {
  send(state.image.id, { op: "add", object });
  if (object.kind === "erase") say(NAMES.erase);
  else say(`${NAMES[object.kind]} of ${className(object.class)} drawn`);
}

export function removeObjects(ids) {
  if (!ids.length) return;
  send(state.image.id, { op: "remove", ids });
  say(`${counted(ids.length, "object")} removed`);
}

export function undo() {
  if (!state.image || !canUndo()) return say("Nothing to undo");
  send(state.image.id, { op: "undo" });
  return say("Undone");
}

export function redo() {
  if (!state.image || !canRedo()) return say("Nothing to redo");
  send(state.image.id, { op: "redo" });
  return say("Redone");
}

export function toggleTag(index) {
  const tags = new Set(visibleTags() ?? []);
  const had = tags.delete(index);
  if (!had) tags.add(index);
  send(state.image.id, { op: "tags", tags: tags.size ? [...tags].sort((one, other) => one - other) : null });
  say(`Image ${had ? "no longer tagged" : "tagged"} with ${className(index)}`);
}

export const canUndo = () => Boolean(state.annotation?.can_undo) || unsentOf(state.image?.id).length > 0;
export const canRedo = () => Boolean(state.annotation?.can_redo) && unsentOf(state.image?.id).length === 0;

on("confirmed", ({ image, annotation }) => {
  const entry = state.project?.images.find((one) => one.id === image);
  if (entry) {
    entry.objects = annotation.objects.length;
    entry.revision = annotation.revision;
    tell("entry", entry);
  }
  if (state.image?.id !== image) return;
  state.annotation = annotation;
  tell("annotation");
});

on("queued left", ({ image }) => {
  if (state.image?.id === image) tell("annotation");
});
