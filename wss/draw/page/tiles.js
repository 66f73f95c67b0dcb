/* Tiles of the image: only those that are visible are loaded, and a limited number is kept. */
import { bitmap, imagePath } from "./api.js";
import { state, tell } from "./store.js";

const SIDE = 512;
const KEPT = 96; // a decoded tile takes 1 MB
const AT_ONCE = 6;

const kept = new Map(); // key -> ImageBitmap, oldest use first
const wanted = new Map(); // key -> {path, rank}
const loading = new Map(); // key -> AbortController
const failed = new Map(); // key -> time of the next try

function suffix(image) {
  if (image.bits !== 16 || !state.window) return "";
  return `?lo=${state.window.lo}&hi=${state.window.hi}`;
}

function keep(key, picture) {
  kept.set(key, picture);
  while (kept.size > KEPT) {
    const [oldest, old] = kept.entries().next().value;
    old.close();
    kept.delete(oldest);
  }
}

function pump() {
  const queue = [...wanted.entries()].sort((one, other) => one[1].rank - other[1].rank);
  for (const [key, { path }] of queue) {
    if (loading.size >= AT_ONCE) return;
    if (loading.has(key) || kept.has(key) || (failed.get(key) ?? 0) > Date.now()) continue;
    const control = new AbortController();
    loading.set(key, control);
    bitmap(path, control.signal)
      .then((picture) => {
        keep(key, picture);
        failed.delete(key);
        tell("tiles");
      })
      .catch(() => {
        if (control.signal.aborted) return;
        failed.set(key, Date.now() + 2000);
        setTimeout(() => tell("tiles"), 2100);
      })
      .finally(() => {
        loading.delete(key);
        wanted.delete(key);
        pump();
      });
  }
}

/** Keys and places of the tiles of one level that meet the box, in pixels of the image. */
function* tilesIn(image, level, box) {
  const span = SIDE * 2 ** level;
  const lastX = Math.ceil(image.width / span) - 1;
  const lastY = Math.ceil(image.height / span) - 1;
  const [x0, y0, x1, y1] = box;
  for (let y = Math.max(0, Math.floor(y0 / span)); y <= Math.min(lastY, Math.floor(y1 / span)); y++) {
    for (let x = Math.max(0, Math.floor(x0 / span)); x <= Math.min(lastX, Math.floor(x1 / span)); x++) {
      const path = imagePath(image.id, `tile/${level}/${x}/${y}${suffix(image)}`);
      yield { key: path, path, x: x * span, y: y * span, span };
    }
  }
}

/**
 * Draw the visible part of the image; the context is in image coordinates.
 *
 * The smallest level lies below, so that something shows until the sharp tiles have come. Returns whether any tile
 * has been drawn.
 */
export function drawTiles(context, image, box, scale) {
  const top = Math.max(0, image.levels - 1);
  const level = Math.min(top, Math.max(0, Math.floor(Math.log2(1 / scale) + 0.01)));
  const now = new Map();
  let drawn = false;
  for (const each of new Set([top, level])) {
    for (const tile of tilesIn(image, each, box)) {
      const picture = kept.get(tile.key);
      if (!picture) {
        now.set(tile.key, { path: tile.path, rank: top - each });
        continue;
      }
      kept.delete(tile.key); // to the end: used last
      kept.set(tile.key, picture);
      const width = Math.min(tile.span, image.width - tile.x);
      const height = Math.min(tile.span, image.height - tile.y);
      context.drawImage(picture, 0, 0, picture.width, picture.height, tile.x, tile.y, width, height);
      drawn = true;
    }
  }
  for (const [key, control] of loading) if (!now.has(key)) control.abort();
  wanted.clear();
  for (const [key, value] of now) wanted.set(key, value);
  pump();
  return drawn;
}

export const tilesKept = () => kept.size;
