/*
 * Gestures of the tools, the same for pointer and keyboard. A gesture has `move(points)`, `end()` and `cancel()`;
 * places are in pixels of the image.
 */
import { state } from "./store.js";
import { view } from "./view.js";
import { live, invalidate, shownMask, sideIsShown } from "./stage.js";
import { addObject, newId, removeObjects, visibleObjects } from "./annotation.js";
import { objectAt } from "./hit.js";
import { acceptRegion } from "./accept.js";
import { startClock } from "./propagation.js";
import { maskAt, NOTHING } from "./masks.js";
import { say, warn } from "./say.js";

const MOST_POINTS = 5000; // a longer stroke goes on as a new one

const round = (value) => Math.round(value * 100) / 100;

/** Keep places within the image; half a pixel of the border stays inside. */
function inside([x, y]) {
  const { width, height } = state.image;
  return [round(Math.min(width, Math.max(0, x))), round(Math.min(height, Math.max(0, y)))];
}

const touches = ([x, y], margin = 0) =>
  x >= -margin && y >= -margin && x <= state.image.width + margin && y <= state.image.height + margin;

function finish(object) {
  live.object = null;
  if (object) {
    startClock();
    addObject(object);
  }
  invalidate("live", "ink");
}

/** A stroke, drawn or erasing. */
class Line {
  constructor(kind, place) {
    this.object = { id: newId(), kind, ...(kind === "stroke" && { class: state.classIndex }), width: state.width, points: [inside(place)] };
    this.met = touches(place, state.width);
    live.object = this.object;
    invalidate("live", "ink");
  }

  move(places) {
    const { points } = this.object;
    const nearest = Math.max(0.5, 0.75 / view.zoom);
    for (const place of places) {
      this.met ||= touches(place, state.width);
      const [x, y] = inside(place);
      const [lastX, lastY] = points[points.length - 1];
      if (Math.hypot(x - lastX, y - lastY) >= nearest) points.push([x, y]);
    }
    invalidate("live");
    if (this.object.kind === "erase") invalidate("ink");
    if (points.length >= MOST_POINTS) this.goOn();
  }

  goOn() {
    addObject(this.object);
    this.object = { ...this.object, id: newId(), points: [this.object.points.at(-1)] };
    live.object = this.object;
  }

  end() {
    finish(this.met ? this.object : null);
  }

  cancel() {
    finish(null);
  }
}

class Point {
  constructor(place) {
    this.met = touches(place);
    const [x, y] = inside(place);
    this.object = live.object = { id: newId(), kind: "point", class: state.classIndex, x, y, width: state.width };
    invalidate("live");
  }

  move(places) {
    [this.object.x, this.object.y] = inside(places.at(-1));
    invalidate("live");
  }

  end() {
    finish(this.met ? this.object : null);
  }

  cancel() {
    finish(null);
  }
}

class Box {
  constructor(place) {
    const [x, y] = inside(place);
    this.object = live.object = { id: newId(), kind: "box", class: state.classIndex, x0: x, y0: y, x1: x, y1: y };
    invalidate("live");
  }

  move(places) {
    [this.object.x1, this.object.y1] = inside(places.at(-1));
    invalidate("live");
  }

  end() {
    const { x0, y0, x1, y1 } = this.object;
    const large = Math.abs(x1 - x0) >= 1 && Math.abs(y1 - y0) >= 1;
    if (!large) say("A box needs two corners that differ");
    const ordered = { x0: Math.min(x0, x1), y0: Math.min(y0, y1), x1: Math.max(x0, x1), y1: Math.max(y0, y1) };
    finish(large ? { ...this.object, ...ordered } : null);
  }

  cancel() {
    finish(null);
  }
}

/** Mark every object that the pointer crosses; the end removes them in one step. */
class Remover {
  constructor(place) {
    this.last = place;
    this.move([place]);
  }

  move(places) {
    const tolerance = 5 / view.zoom;
    const left = visibleObjects().filter((object) => !live.marked.has(object.id));
    for (const place of places) {
      const steps = Math.max(1, Math.ceil(Math.hypot(place[0] - this.last[0], place[1] - this.last[1]) / (2 * tolerance)));
      for (let step = 1; step <= steps; step++) {
        const x = this.last[0] + ((place[0] - this.last[0]) * step) / steps;
        const y = this.last[1] + ((place[1] - this.last[1]) * step) / steps;
        const met = objectAt(left.filter((object) => !live.marked.has(object.id)), x, y, tolerance);
        if (met) live.marked.add(met.id);
      }
      this.last = place;
    }
    invalidate("ink");
  }

  end() {
    const ids = [...live.marked];
    live.marked.clear();
    if (ids.length) startClock();
    else say("No object there");
    removeObjects(ids);
    invalidate("ink");
  }

  cancel() {
    live.marked.clear();
    invalidate("ink");
  }
}

/** A click that makes a region of the shown mask a label. */
class Accepter {
  constructor(place, source) {
    this.place = place;
    this.source = source;
  }

  move(places) {
    this.place = places.at(-1);
  }

  end() {
    const shown = shownMask();
    const source = this.source ?? (state.options.source === "prediction" && !sideIsShown() ? "prediction" : "propagation");
    if (!this.source && (!shown || maskAt(shown.mask, shown.area, ...this.place) === NOTHING)) {
      say("There is no mask here to accept");
      return;
    }
    if (!touches(this.place)) return;
    startClock();
    void acceptRegion(source, round(this.place[0]), round(this.place[1]));
  }

  cancel() {}
}

function needsClass() {
  if (state.classIndex !== null) return false;
  warn("Add a class first: type its name below Classes.", { key: "class", seconds: 6 });
  document.getElementById("add-class-name").focus();
  return true;
}

/** Begin the gesture of a tool at a place, or null where the tool cannot begin. */
export function begin(tool, place) {
  if (!state.image?.width) return null;
  if (!state.annotation) {
    say("The drawing of this image has not come yet");
    return null;
  }
  if (["brush", "point", "box"].includes(tool) && needsClass()) return null;
  if (!state.options.ink) showInk();
  if (tool === "brush") return new Line("stroke", place);
  if (tool === "erase-brush") return new Line("erase", place);
  if (tool === "point") return new Point(place);
  if (tool === "box") return new Box(place);
  if (tool === "erase-stroke") return new Remover(place);
  if (tool === "accept") return new Accepter(place, null);
  return null;
}

function showInk() {
  const box = document.getElementById("ink");
  if (!box.checked) box.click();
}

export const acceptFromPrediction = (place) => new Accepter(place, "prediction").end();

