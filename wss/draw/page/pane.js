/* One pane: canvases over each other for image, mask, drawing and what is being drawn right now. */
import { setStyle } from "./dom.js";
import { view } from "./view.js";

export class Pane {
  constructor(element) {
    this.element = element;
    this.layers = {};
    for (const name of ["image", "mask", "ink", "live"]) {
      const canvas = element.querySelector(`.layer-${name}`);
      if (canvas) this.layers[name] = { canvas, context: canvas.getContext("2d") };
    }
  }

  /** Give the canvases the size of the pane in pixels of the screen. Returns whether it changed. */
  resize() {
    const { clientWidth, clientHeight } = this.element;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(clientWidth * ratio));
    const height = Math.max(1, Math.round(clientHeight * ratio));
    let changed = false;
    for (const { canvas } of Object.values(this.layers)) {
      if (canvas.width === width && canvas.height === height) continue;
      canvas.width = width;
      canvas.height = height;
      changed = true;
    }
    return changed;
  }

  /** An empty context in coordinates of the image. */
  start(name) {
    const { canvas, context } = this.layers[name];
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const zoom = view.zoom * ratio;
    context.setTransform(zoom, 0, 0, zoom, view.x * ratio, view.y * ratio);
    return context;
  }

  /** The part of the image that is visible, as [x0, y0, x1, y1]. */
  visible() {
    const x = -view.x / view.zoom;
    const y = -view.y / view.zoom;
    const { clientWidth, clientHeight } = this.element;
    return [x, y, x + clientWidth / view.zoom, y + clientHeight / view.zoom];
  }

  style(name, properties) {
    setStyle(this.layers[name].canvas, properties);
  }

  drawMask(picture, area) {
    const context = this.start("mask");
    if (!picture) return;
    const zoom = (view.zoom * area.width) / picture.width;
    context.imageSmoothingEnabled = zoom * (window.devicePixelRatio || 1) < 1;
    context.imageSmoothingQuality = "medium";
    context.drawImage(picture, area.x, area.y, area.width, area.height);
  }
}
