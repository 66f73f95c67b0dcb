/* Accepted regions: run lengths as COCO writes them (down the columns, beginning with pixels outside). */
import { channels } from "./colours.js";

const LARGEST = 4096; // side of the canvas of a region; larger ones are drawn coarser

const shapes = new Map(); // id of the object -> {x, y, step, width, height, inside}

function shapeOf(object) {
  if (shapes.has(object.id)) return shapes.get(object.id);
  const [rows] = object.rle.size;
  const runs = [];
  let [left, top, right, bottom] = [Infinity, Infinity, -1, -1];
  let at = 0;
  object.rle.counts.forEach((length, index) => {
    for (let from = at, rest = index % 2 ? length : 0; rest > 0; ) {
      const column = Math.floor(from / rows);
      const row = from % rows;
      const taken = Math.min(rest, rows - row);
      runs.push([column, row, row + taken]);
      left = Math.min(left, column);
      right = Math.max(right, column);
      top = Math.min(top, row);
      bottom = Math.max(bottom, row + taken - 1);
      from += taken;
      rest -= taken;
    }
    at += length;
  });
  const step = Math.max(1, Math.ceil(Math.max(right - left + 1, bottom - top + 1) / LARGEST));
  const width = Math.max(1, Math.ceil((right - left + 1) / step));
  const height = Math.max(1, Math.ceil((bottom - top + 1) / step));
  const inside = new Uint8Array(width * height);
  for (const [column, from, to] of runs) {
    const x = Math.floor((column - left) / step);
    for (let row = from; row < to; row++) inside[Math.floor((row - top) / step) * width + x] = 1;
  }
  const shape = { x: left, y: top, step, width, height, inside };
  shapes.set(object.id, shape);
  return shape;
}

const pictures = new Map(); // id and colour -> canvas

function pictureOf(object, colour) {
  const key = `${object.id} ${colour}`;
  if (pictures.has(key)) return pictures.get(key);
  const { width, height, inside } = shapeOf(object);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const [red, green, blue] = channels(colour);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!inside[at]) continue;
      const edge =
        !inside[at - 1] || !inside[at + 1] || !inside[at - width] || !inside[at + width] || x === 0 || x === width - 1;
      picture.data.set([red, green, blue, edge ? 255 : (x + y) % 8 < 3 ? 190 : 110], at * 4);
    }
  }
  context.putImageData(picture, 0, 0);
  pictures.set(key, canvas);
  if (pictures.size > 64) pictures.delete(pictures.keys().next().value);
  return canvas;
}

export function drawRegion(context, object, colour) {
  const { x, y, step, width, height } = shapeOf(object);
  context.drawImage(pictureOf(object, colour), x, y, width * step, height * step);
}

export function regionHas(object, x, y) {
  const shape = shapeOf(object);
  const column = Math.floor((x - shape.x) / shape.step);
  const row = Math.floor((y - shape.y) / shape.step);
  if (column < 0 || row < 0 || column >= shape.width || row >= shape.height) return false;
  return shape.inside[row * shape.width + column] === 1;
}

export function forgetRegions() {
  shapes.clear();
  pictures.clear();
}
