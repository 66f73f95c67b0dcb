/* What the page knows, and who wants to hear of changes. Modules change fields and then call `tell`. */

export const state = {
  project: null, // answer of /api/project
  image: null, // entry of project.images that is shown
  annotation: null, // newest annotation of that image that the server confirmed
  classIndex: null, // class that is drawn
  tool: "brush",
  width: 8, // width of the brush in pixels of the image
  options: {
    source: "propagation", // or "prediction", "off"
    method: null,
    opacity: 0.5,
    style: "both", // or "fill", "outline"
    patterns: false,
    unsure: false,
    beside: false,
    ink: true,
    brightness: 100,
    contrast: 100,
  },
  window: null, // {lo, hi} of 16-bit images
  training: null,
  singleKeys: true,
};

const listeners = new Map();

/** Call `listener(detail)` whenever one of the topics, separated by spaces, changes. */
export function on(topics, listener) {
  for (const topic of topics.split(" ")) {
    if (!listeners.has(topic)) listeners.set(topic, []);
    listeners.get(topic).push(listener);
  }
}

export function tell(topic, detail) {
  for (const listener of listeners.get(topic) ?? []) listener(detail);
}

export function classOf(index) {
  return state.project?.classes.find((entry) => entry.index === index) ?? null;
}

export function className(index) {
  return classOf(index)?.name ?? (index === 255 || index === null ? "nothing" : `class ${index}`);
}

const REMEMBERED = "wss-draw-options";

/** Choices of how things look outlive the tab; private windows may refuse, and then they do not. */
export function remember() {
  try {
    const { tool, width, options, singleKeys } = state;
    localStorage.setItem(REMEMBERED, JSON.stringify({ tool, width, options, singleKeys }));
  } catch {
    /* the choices last as long as the tab */
  }
}

export function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(REMEMBERED) ?? "{}");
    if (typeof kept.width === "number") state.width = kept.width;
    if (typeof kept.singleKeys === "boolean") state.singleKeys = kept.singleKeys;
    for (const key of Object.keys(state.options)) {
      if (kept.options && typeof kept.options[key] === typeof state.options[key]) state.options[key] = kept.options[key];
    }
    if (typeof kept.options?.method === "string") state.options.method = kept.options.method;
    state.options.source = "propagation";
    state.options.brightness = state.options.contrast = 100;
    return typeof kept.width === "number";
  } catch {
    return false;
  }
}
