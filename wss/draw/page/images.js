/* Which image is shown, and moving between images. */
import { Away, Refused, call, imagePath } from "./api.js";
import { find, show } from "./dom.js";
import { state, on, tell } from "./store.js";
import { setImageSize } from "./view.js";
import { openAnnotation } from "./annotation.js";
import { loadPrediction } from "./prediction.js";
import { loadBase } from "./base.js";
import { say, warn } from "./say.js";

export const imageOf = (id) => state.project?.images.find((entry) => entry.id === id) ?? null;

/** Entries that follow each other: every picture, and every volume by one of its slices. */
export function stops() {
  const seen = new Set();
  return state.project.images.filter((entry) => {
    if (!entry.volume) return true;
    if (seen.has(entry.volume.id)) return false;
    seen.add(entry.volume.id);
    return true;
  });
}

/** The stop that holds an image. */
export const stopOf = (image) => (image?.volume ? stops().find((entry) => entry.volume?.id === image.volume.id) : image);

/** The image that opens for an entry of the list: the picture, or the middle slice of the volume. */
export function entrance(entry) {
  if (!entry.volume) return entry;
  const slices = state.project.images.filter((one) => one.volume?.id === entry.volume.id);
  return slices[Math.floor(slices.length / 2)];
}

/** Ask for what is known only of opened images; the server computes its edges from then on. */
async function measure(image) {
  try {
    Object.assign(image, await call("GET", `/api/images/${encodeURIComponent(image.id)}`));
    tell("entry", image);
    return Boolean(image.width);
  } catch (error) {
    if (error instanceof Refused || error instanceof Away) warn(`${image.name}: ${error.message}`, { key: "open" });
    else throw error;
    return false;
  }
}

export async function openImage(id) {
  const image = imageOf(id);
  if (!image) return;
  const before = state.image;
  const sameVolume = Boolean(before?.volume && before.volume.id === image.volume?.id && before.width === image.width);
  state.image = image;
  state.annotation = null;
  state.window = null;
  const measured = measure(image);
  if (!image.width && (!(await measured) || state.image !== image)) return;
  setImageSize(image.width, image.height, sameVolume);
  history.replaceState(null, "", `#${encodeURIComponent(image.id)}`);
  tell("image", image);
  say(image.volume ? `${image.volume.name ?? image.name}, slice ${image.volume.slice + 1} of ${image.volume.of}` : image.name);
  await Promise.all([openAnnotation(image), loadPrediction(), loadBase(image)]);
}

export function stepImage(step) {
  if (!state.project?.images.length) return;
  const all = stops();
  const at = all.indexOf(stopOf(state.image)) + step;
  if (at < 0 || at >= all.length) say(step > 0 ? "This is the last image" : "This is the first image");
  else void openImage(entrance(all[at]).id);
}

function showReason(reason) {
  find("reason-text").textContent = reason;
  show(find("reason"), true);
}

export const hideReason = () => show(find("reason"), false);

/** Open the image that the server proposes, and say why it is proposed. */
export async function openProposed() {
  try {
    const after = state.image ? `?after=${encodeURIComponent(state.image.id)}` : "";
    const { image, reason } = await call("GET", `/api/next${after}`);
    if (image) await openImage(image);
    showReason(reason);
    say(reason);
  } catch (error) {
    if (error instanceof Refused || error instanceof Away) warn(error.message, { key: "next" });
    else throw error;
  }
}

export const thumbnail = (id) => imagePath(id, "thumbnail");

/** Open the image that the address names, or the first one. */
export async function openFirst() {
  const named = decodeURIComponent(location.hash.slice(1));
  const entry = imageOf(named) ?? state.project.images[0];
  if (entry) await openImage(entry.id);
}

on("image queued", hideReason);
