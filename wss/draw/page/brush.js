/* The pixels that a stroke labels, as the server paints them: a round tip along the line through pixels. */

const MOST = 1_000_000; // rows of the tip along the line; what is larger is shown as a smooth line

/** Round to the nearest integer, halves to the even one. */
function rounded(value) {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest === 0.5) return low % 2 === 0 ? low : low + 1;
  return rest < 0.5 ? low : low + 1;
}

/** A coordinate as a pixel; up to one pixel outside counts as on the border. */
function pixelOf(value, length) {
  const pixel = rounded(value - 0.5);
  return pixel >= -1 && pixel <= length ? Math.min(length - 1, Math.max(0, pixel)) : pixel;
}

/** Call `visit(x, y)` for the pixels of a line: Bresenham's, from left to right. */
function walk([x0, y0], [x1, y1], visit) {
  let [x, y, endX, endY] = x1 < x0 ? [x1, y1, x0, y0] : [x0, y0, x1, y1];
  const down = endY < y ? -1 : 1;
  const wide = endX - x;
  const high = Math.abs(endY - y);
  const steep = high > wide;
  const [long, short] = steep ? [high, wide] : [wide, high];
  let error = long - 2 * short;
  for (let step = 0; step <= long; step++) {
    visit(x, y);
    const both = error < 0;
    error += (both ? 2 * long : 0) - 2 * short;
    if (steep || both) y += down;
    if (!steep || both) x += 1;
  }
}

/** First and last offset of each row of a round tip, as [dy, from, to]. */
function tipOf(brush) {
  const middle = (brush - 1) / 2;
  const anchor = Math.floor(brush / 2);
  const rows = [];
  for (let row = 0; row < brush; row++) {
    let from = 0;
    while (from < middle && Math.hypot(row - middle, from - middle) > brush / 2) from++;
    if (Math.hypot(row - middle, from - middle) > brush / 2) continue;
    rows.push([row - (brush - 1) + anchor, from - (brush - 1) + anchor, anchor - from]);
  }
  return rows;
}

/**
 * Runs of pixels [y, first, last] that a stroke, a point or an erasure covers, or null where they are too many. `size`
 * is [width, height] of the image.
 */
export function runsOf(object, [width, height]) {
  const brush = Math.max(1, rounded(object.width));
  const points = (object.points ?? [[object.x, object.y]]).map(([x, y]) => [pixelOf(x, width), pixelOf(y, height)]);
  const line = new Map(); // y -> x of the line's pixels in that row
  let length = 0;
  points.forEach((point, at) => {
    const last = points[Math.max(0, at - 1)];
    length += Math.max(Math.abs(point[0] - last[0]), Math.abs(point[1] - last[1])) + 1;
  });
  if (length * brush > MOST) return null;
  const visit = (x, y) => {
    if (!line.has(y)) line.set(y, new Set());
    line.get(y).add(x);
  };
  points.forEach((point, at) => walk(points[Math.max(0, at - 1)], point, visit));
  const rows = new Map(); // y -> [first, last] pairs
  const tip = tipOf(brush);
  for (const [y, columns] of line) {
    for (const [first, last] of merged([...columns].map((x) => [x, x]))) {
      for (const [down, from, to] of tip) {
        if (y + down < 0 || y + down >= height) continue;
        if (!rows.has(y + down)) rows.set(y + down, []);
        rows.get(y + down).push([Math.max(0, first + from), Math.min(width - 1, last + to)]);
      }
    }
  }
  const runs = [];
  for (const [y, pairs] of rows) for (const [first, last] of merged(pairs)) if (first <= last) runs.push([y, first, last]);
  return runs;
}

/** Runs that touch become one. */
function merged(pairs) {
  const found = [];
  for (const [first, last] of pairs.sort((one, other) => one[0] - other[0])) {
    const before = found.at(-1);
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else found.push([first, last]);
  }
  return found;
}

const paths = new WeakMap(); // object -> {points, path}

/** The pixels of a stroke, a point or an erasure as a path in coordinates of the image, or null where they are too many. */
export function pathOf(object, size) {
  const points = object.points?.length ?? `${object.x} ${object.y}`;
  const known = paths.get(object);
  if (known?.points === points) return known.path;
  const runs = runsOf(object, size);
  const path = runs && new Path2D();
  for (const [y, first, last] of runs ?? []) path.rect(first, y, last - first + 1, 1);
  paths.set(object, { points, path });
  return path;
}
