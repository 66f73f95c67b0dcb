/* The object under a place, for the eraser of whole strokes. */
import { regionHas } from "./regions.js";

export function distanceToSegment(x, y, [x0, y0], [x1, y1]) {
  const dx = x1 - x0;
  const dy = y1 - y0;
  const length = dx * dx + dy * dy;
  const at = length === 0 ? 0 : Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / length));
  return Math.hypot(x - x0 - at * dx, y - y0 - at * dy);
}

export function distanceToLine(x, y, points) {
  let least = Infinity;
  for (let at = 0; at < points.length; at++) {
    least = Math.min(least, distanceToSegment(x, y, points[Math.max(0, at - 1)], points[at]));
  }
  return least;
}

function borderOf({ x0, y0, x1, y1 }) {
  return [
    [x0, y0],
    [x1, y0],
    [x1, y1],
    [x0, y1],
    [x0, y0],
  ];
}

function meets(object, x, y, tolerance) {
  if (object.kind === "stroke") return distanceToLine(x, y, object.points) <= object.width / 2 + tolerance;
  if (object.kind === "point") return Math.hypot(x - object.x, y - object.y) <= Math.max(object.width / 2, tolerance) + tolerance;
  if (object.kind === "box") return distanceToLine(x, y, borderOf(object)) <= 2 * tolerance;
  if (object.kind === "region") return regionHas(object, x, y);
  return false; // what the brush erased is brought back by undo
}

/** The topmost object within `tolerance` pixels of a place, or null. */
export function objectAt(objects, x, y, tolerance) {
  for (let at = objects.length - 1; at >= 0; at--) if (meets(objects[at], x, y, tolerance)) return objects[at];
  return null;
}
