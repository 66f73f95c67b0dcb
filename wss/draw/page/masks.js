/* Masks of class indices as pictures: fill, outline, patterns and uncertainty. */
import { fromBase64, decodePng } from "./png.js";
import { channels, contrasting, patternAt } from "./colours.js";

export const NOTHING = 255;
const HEAT = [255, 150, 0];
const INNER = 170; // alpha of the inner line of outlines

/** Decode a mask and the grey map beside it, which may be smaller. `mapIsCertainty` says what the map holds. */
export async function decodeMask(mask, map, mapIsCertainty) {
  const [indices, unsure] = await Promise.all([
    decodePng(fromBase64(mask)),
    map ? decodePng(fromBase64(map)).catch(() => null) : null,
  ]);
  if (unsure && mapIsCertainty) for (let at = 0; at < unsure.values.length; at++) unsure.values[at] = 255 - unsure.values[at];
  return { ...indices, unsure };
}

function tables(classes, options) {
  const red = new Uint8Array(256);
  const green = new Uint8Array(256);
  const blue = new Uint8Array(256);
  const alpha = new Uint8Array(256);
  const faint = new Uint8Array(256);
  const pattern = new Uint8Array(256);
  const full = options.style === "fill" ? 255 : options.style === "both" ? 190 : 0;
  for (const entry of classes) {
    const quiet = entry.name.toLowerCase() === "background" ? 0.45 : 1;
    [red[entry.index], green[entry.index], blue[entry.index]] = channels(entry.color);
    alpha[entry.index] = full * quiet;
    faint[entry.index] = full * quiet * 0.3;
    pattern[entry.index] = options.patterns ? entry.pattern : 0;
  }
  return { red, green, blue, alpha, faint, pattern };
}

/** Whether a pixel's class differs from a neighbour's. */
function isBorder(values, width, height, x, y, at) {
  const value = values[at];
  return (
    (x > 0 && values[at - 1] !== value) ||
    (x + 1 < width && values[at + 1] !== value) ||
    (y > 0 && values[at - width] !== value) ||
    (y + 1 < height && values[at + width] !== value)
  );
}

/** Outline every region in the full colour of its class and, inside of that, in one that contrasts with it. */
function outline(values, width, height, data, classes) {
  const inner = new Map(classes.map(({ index, color }) => [index, channels(contrasting(color))]));
  const border = new Uint8Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (values[at] === NOTHING || !isBorder(values, width, height, x, y, at)) continue;
      border[at] = 1;
      data[at * 4 + 3] = 255;
    }
  }
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (border[at] || values[at] === NOTHING) continue;
      const beside = (x > 0 && border[at - 1]) || (x + 1 < width && border[at + 1]) || border[at - width] || border[at + width];
      if (beside) data.set([...(inner.get(values[at]) ?? [255, 255, 255]), INNER], at * 4);
    }
  }
}

/** Colour pixels the more, the less sure they are. */
function heat({ width, height, unsure }, data) {
  for (let y = 0, to = 0; y < height; y++) {
    const row = Math.floor((y * unsure.height) / height) * unsure.width;
    for (let x = 0; x < width; x++, to += 4) {
      const share = unsure.values[row + Math.floor((x * unsure.width) / width)] / 255;
      for (let channel = 0; channel < 3; channel++) data[to + channel] += (HEAT[channel] - data[to + channel]) * share;
      data[to + 3] = Math.max(data[to + 3], 255 * share);
    }
  }
}

/** A canvas with the mask in the colours of the classes. Opacity is left to the layer that shows it. */
export function paintMask(mask, classes, options) {
  const { width, height, values, unsure } = mask;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const data = picture.data;
  const { red, green, blue, alpha, faint, pattern } = tables(classes, options);
  const period = Math.max(4, 2 * Math.round(Math.max(width, height) / 140));
  for (let y = 0, at = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++, to += 4) {
      const value = values[at];
      data[to] = red[value];
      data[to + 1] = green[value];
      data[to + 2] = blue[value];
      data[to + 3] = pattern[value] && !patternAt(pattern[value], x, y, period) ? faint[value] : alpha[value];
    }
  }
  if (options.style !== "fill") outline(values, width, height, data, classes);
  if (options.unsure && unsure) heat(mask, data);
  context.putImageData(picture, 0, 0);
  return canvas;
}

/** Class index of the mask at a place of the image; `area` is the part of the image that the mask covers. */
export function maskAt(mask, area, x, y) {
  if (!mask || x < area.x || y < area.y || x >= area.x + area.width || y >= area.y + area.height) return NOTHING;
  const column = Math.floor(((x - area.x) / area.width) * mask.width);
  const row = Math.floor(((y - area.y) / area.height) * mask.height);
  return mask.values[row * mask.width + column];
}
