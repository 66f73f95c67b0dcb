/* The curve of the loss as SVG. */
import { makeSvg } from "./dom.js";

const WIDTH = 260;
const HEIGHT = 72;
const LEFT = 34;
const BOTTOM = 14;
const MOST = 300; // points that are drawn

function thinned(curve) {
  const step = Math.max(1, Math.ceil(curve.length / MOST));
  return curve.filter((_, at) => at % step === 0 || at === curve.length - 1);
}

const short = (value) => (value >= 1000 ? `${Math.round(value / 100) / 10}k` : String(Math.round(value * 100) / 100));

function label(x, y, text, anchor = "end") {
  return makeSvg("text", { x, y, "text-anchor": anchor, class: "curve-label" }, text);
}

/** Curve of [step, loss] pairs with its axes; its description is its label. */
export function curveOf(curve) {
  const points = thinned(curve.filter(([, loss]) => Number.isFinite(loss)));
  const top = Math.max(...points.map(([, loss]) => loss), 1e-6);
  const first = points[0][0];
  const last = Math.max(points.at(-1)[0], first + 1);
  const x = (step) => LEFT + ((step - first) / (last - first)) * (WIDTH - LEFT - 4);
  const y = (loss) => 6 + (1 - loss / top) * (HEIGHT - BOTTOM - 6);
  const path = points.map(([step, loss], at) => `${at ? "L" : "M"}${x(step).toFixed(1)} ${y(loss).toFixed(1)}`).join("");
  const [step, loss] = points.at(-1);
  return makeSvg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Loss ${short(loss)} after ${step} steps` },
    makeSvg("path", { class: "curve-axis", d: `M${LEFT} 4V${HEIGHT - BOTTOM}H${WIDTH - 4}` }),
    makeSvg("path", { class: "curve-line", d: path }),
    makeSvg("circle", { class: "curve-dot", cx: x(step), cy: y(loss), r: 2.5 }),
    label(LEFT - 4, 12, short(top)),
    label(LEFT - 4, HEIGHT - BOTTOM, "0"),
    label(WIDTH - 4, HEIGHT - 3, `step ${step}`),
    label(LEFT, HEIGHT - 3, "loss", "start"),
  );
}
