/*
 * Changes on their way to the server, in order. A change leaves the outbox only after the server has said that it is on
 * disk. What is unsent outlives a reload of the tab (sessionStorage); while the server is away it is tried again.
 */
import { Away, Full, Refused, call, imagePath } from "./api.js";
import { tell } from "./store.js";
import { saySaved, unwarn, warn } from "./say.js";
import { counted } from "./dom.js";

const KEPT = "wss-draw-unsent";
const KEPT_ANNOTATIONS = 40;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

const queue = []; // {image, change}
const newest = new Map(); // image -> its newest annotation, as the server confirmed it
let running = false;
let failing = false;
let wake = null;

export const unsentOf = (image) => queue.filter((entry) => entry.image === image).map((entry) => entry.change);
export const unsent = () => queue.length;
export const newestOf = (image) => newest.get(image) ?? null;

function persist() {
  try {
    if (queue.length) sessionStorage.setItem(KEPT, JSON.stringify(queue));
    else sessionStorage.removeItem(KEPT);
  } catch {
    /* the browser keeps nothing; the memory of this tab still does */
  }
}

/** Take over what a reload interrupted. */
export function recallUnsent() {
  try {
    queue.push(...JSON.parse(sessionStorage.getItem(KEPT) ?? "[]"));
  } catch {
    persist(); // nothing is kept, or what is kept cannot be read
  }
  if (queue.length) void drain();
}

export function confirm(image, annotation) {
  newest.delete(image);
  newest.set(image, annotation);
  const oldest = newest.keys().next().value;
  if (newest.size > KEPT_ANNOTATIONS && !unsentOf(oldest).length) newest.delete(oldest);
  tell("confirmed", { image, annotation });
}

export async function refresh(image) {
  const annotation = await call("GET", imagePath(image, "annotation"));
  const known = newest.get(image);
  if (known && known.revision > annotation.revision && queue.length) return known;
  confirm(image, annotation);
  return annotation;
}

export function send(image, change) {
  queue.push({ image, change });
  persist();
  if (failing) sayAway();
  tell("queued", { image, change });
  void drain();
}

/** Try again at once, for example because the server was heard of. */
export function hurry() {
  wake?.();
}

function pause(milliseconds) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}

const added = (change) => change.objects ?? [change.object];

/** The annotation after a change of which the server confirmed only the revision. */
function applied(annotation, change, answer) {
  let { objects } = annotation;
  if (change.op === "add") objects = [...objects, ...added(change)];
  else if (change.op === "remove") objects = objects.filter((object) => !change.ids.includes(object.id));
  const { revision, can_undo, can_redo } = answer;
  return { ...annotation, objects, revision, can_undo, can_redo };
}

async function post({ image, change }) {
  const known = newest.get(image) ?? (await refresh(image));
  const brief = change.op === "add" || change.op === "remove";
  const answer = await call("POST", imagePath(image, "changes"), { base: known.revision, change, ...(brief && { brief }) });
  queue.shift();
  persist();
  if (answer.annotation) confirm(image, answer.annotation);
  else if (answer.revision === known.revision + 1) confirm(image, applied(known, change, answer));
  else await refresh(image);
}

/** Another tab was first: go on from its drawing. Returns whether the change is still to be sent. */
function settle(entry, refused) {
  const { image, change } = entry;
  const annotation = refused.body.annotation;
  confirm(image, annotation);
  if (change.op === "add") {
    const there = new Set(annotation.objects.map((object) => object.id));
    const rest = added(change).filter((object) => !there.has(object.id));
    entry.change = { op: "add", objects: rest };
    if (rest.length) warn("Another tab changed this image. Its drawing is shown, and yours was put on top.", { key: "conflict" });
    return rest.length > 0;
  }
  if (change.op === "remove") {
    const there = new Set(annotation.objects.map((object) => object.id));
    entry.change = { op: "remove", ids: change.ids.filter((id) => there.has(id)) };
    return entry.change.ids.length > 0;
  }
  const what = { undo: "undo", redo: "redo", tags: "the change of tags" }[change.op];
  warn(`Another tab changed this image. Its newest drawing is shown; ${what} was not carried out.`, { key: "conflict" });
  return false;
}

function leave() {
  const { image } = queue.shift();
  persist();
  tell("left", { image });
}

async function attempt(entry) {
  try {
    await post(entry);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 409 && error.body.annotation) {
      if (!settle(entry, error)) leave();
      return;
    }
    warn(`A change was not saved: ${error.message}`, { seconds: 0 });
    leave();
    await refresh(entry.image);
  }
}

const sayAway = () => saySaved("away", `Not saved: ${counted(queue.length, "change")}, trying again`);

async function drain() {
  if (running) return;
  running = true;
  let wait = FIRST_WAIT_MS;
  while (queue.length) {
    if (!failing) saySaved("saving");
    try {
      await attempt(queue[0]);
      wait = FIRST_WAIT_MS;
      failing = false;
      unwarn("full");
    } catch (error) {
      if (!(error instanceof Away)) {
        warn(`A change could not be sent: ${error.message}`, { key: "send" });
      }
      failing = true;
      sayAway();
      if (error instanceof Full) warn(error.message, { key: "full", seconds: 0 });
      else tell("away", error);
      await pause(wait);
      wait = Math.min(2 * wait, LONGEST_WAIT_MS);
    }
  }
  running = false;
  wake = null;
  saySaved("saved");
  tell("sent");
}

window.addEventListener("beforeunload", (event) => {
  if (failing) event.preventDefault();
});
