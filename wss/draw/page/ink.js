/* Draw the objects of an annotation. The context is in image coordinates; `pixel` is the size of a screen pixel there. */
import { classOf, state } from "./store.js";
import { contrasting } from "./colours.js";
import { drawRegion } from "./regions.js";
import { pathOf } from "./brush.js";

const CLOSE = 1 / 3; // where pixels of the image are at least three times as large as those of the screen, single ones are shown

const colourOf = (object) => classOf(object.class)?.color ?? "#888888";

export function trace(context, points) {
  context.beginPath();
  const [[x, y]] = points;
  context.moveTo(x, y);
  if (points.length === 1) context.lineTo(x + 1e-3, y);
  for (let at = 1; at < points.length; at++) context.lineTo(points[at][0], points[at][1]);
}

/** The very pixels that an object labels, or null from afar and where they are too many. */
const pixelsOf = (object, pixel) => (pixel <= CLOSE && state.image ? pathOf(object, [state.image.width, state.image.height]) : null);

function pixels(context, path, colour, pixel) {
  context.strokeStyle = contrasting(colour);
  context.globalAlpha = 0.55;
  context.lineWidth = 2 * pixel;
  context.stroke(path);
  context.globalAlpha = 1;
  context.fillStyle = colour;
  context.fill(path);
}

function line(context, object, colour, pixel) {
  const path = pixelsOf(object, pixel);
  if (path) {
    pixels(context, path, colour, pixel);
    return;
  }
  context.lineCap = context.lineJoin = "round";
  trace(context, object.points);
  context.strokeStyle = contrasting(colour);
  context.globalAlpha = 0.55;
  context.lineWidth = object.width + 2 * pixel;
  context.stroke();
  context.globalAlpha = 1;
  context.strokeStyle = colour;
  context.lineWidth = object.width;
  context.stroke();
}

function point(context, object, colour, pixel) {
  const radius = Math.max(object.width / 2, 3.5 * pixel);
  const path = pixelsOf(object, pixel);
  if (path) pixels(context, path, colour, pixel);
  else {
    context.beginPath();
    context.arc(object.x, object.y, radius, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.fill();
    context.lineWidth = 1.5 * pixel;
    context.strokeStyle = contrasting(colour);
    context.stroke();
  }
  context.beginPath();
  context.arc(object.x, object.y, Math.max(1.2 * pixel, radius / 6), 0, 2 * Math.PI);
  context.fillStyle = contrasting(colour);
  context.fill();
}

export function box(context, object, colour, pixel) {
  const x = Math.min(object.x0, object.x1);
  const y = Math.min(object.y0, object.y1);
  const width = Math.abs(object.x1 - object.x0);
  const height = Math.abs(object.y1 - object.y0);
  context.lineJoin = "miter";
  context.strokeStyle = contrasting(colour);
  context.globalAlpha = 0.55;
  context.lineWidth = 4.5 * pixel;
  context.strokeRect(x, y, width, height);
  context.globalAlpha = 1;
  context.strokeStyle = colour;
  context.lineWidth = 2.5 * pixel;
  context.strokeRect(x, y, width, height);
}

function erase(context, object, pixel) {
  const path = pixelsOf(object, pixel);
  context.globalCompositeOperation = "destination-out";
  context.fillStyle = context.strokeStyle = "#000";
  if (path) context.fill(path);
  else {
    context.lineCap = context.lineJoin = "round";
    trace(context, object.points);
    context.lineWidth = object.width;
    context.stroke();
  }
  context.globalCompositeOperation = "source-over";
}

export function drawObject(context, object, pixel, colour = colourOf(object)) {
  context.save();
  if (object.kind === "stroke") line(context, object, colour, pixel);
  else if (object.kind === "erase") erase(context, object, pixel);
  else if (object.kind === "point") point(context, object, colour, pixel);
  else if (object.kind === "box") box(context, object, colour, pixel);
  else if (object.kind === "region") drawRegion(context, object, colour);
  context.restore();
}

/** Draw all objects in order; those in `marked` are about to be removed. */
export function drawObjects(context, objects, pixel, marked) {
  for (const object of objects) {
    if (!marked?.has(object.id)) drawObject(context, object, pixel);
    else {
      context.save();
      context.globalAlpha = 0.25;
      drawObject(context, object, pixel, "#888888");
      context.restore();
    }
  }
}
