/* The view on the image: screen = image * zoom + (x, y), in CSS pixels. All panes share one view. */
import { tell } from "./store.js";

const MOST = 64;
const MARGIN = 24;

export const view = {
  zoom: 1,
  x: 0,
  y: 0,
  width: 1, // of the pane, in CSS pixels
  height: 1,
  imageWidth: 1,
  imageHeight: 1,
  fitted: true, // follows the size of the pane until someone zooms or pans
};

export const toImage = (x, y) => [(x - view.x) / view.zoom, (y - view.y) / view.zoom];
export const toScreen = (x, y) => [x * view.zoom + view.x, y * view.zoom + view.y];

function fitZoom() {
  const margin = Math.min(MARGIN, view.width / 20);
  return Math.min((view.width - 2 * margin) / view.imageWidth, (view.height - 2 * margin) / view.imageHeight, MOST);
}

const least = () => Math.min(fitZoom() / 2, 1);

/** Keep at least a strip of the image inside the pane, so that nobody loses it. */
function hold() {
  const strip = 48;
  const wide = view.imageWidth * view.zoom;
  const high = view.imageHeight * view.zoom;
  view.x = Math.min(view.width - strip, Math.max(strip - wide, view.x));
  view.y = Math.min(view.height - strip, Math.max(strip - high, view.y));
}

export function fit() {
  view.zoom = Math.max(1e-4, fitZoom());
  view.x = (view.width - view.imageWidth * view.zoom) / 2;
  view.y = (view.height - view.imageHeight * view.zoom) / 2;
  view.fitted = true;
  tell("view");
}

/** Zoom by a factor, so that the pixel at (x, y) of the pane stays where it is. */
export function zoomBy(factor, x = view.width / 2, y = view.height / 2) {
  const zoom = Math.min(MOST, Math.max(least(), view.zoom * factor));
  const [imageX, imageY] = toImage(x, y);
  view.zoom = zoom;
  view.x = x - imageX * zoom;
  view.y = y - imageY * zoom;
  view.fitted = false;
  hold();
  tell("view");
}

export const zoomTo = (zoom) => zoomBy(zoom / view.zoom);

export function panBy(x, y) {
  view.x += x;
  view.y += y;
  view.fitted = false;
  hold();
  tell("view");
}

/** Move the view just so far that a place of the image lies inside the pane. */
export function reveal(imageX, imageY) {
  const [x, y] = toScreen(imageX, imageY);
  const edge = 40;
  const moveX = x < edge ? edge - x : x > view.width - edge ? view.width - edge - x : 0;
  const moveY = y < edge ? edge - y : y > view.height - edge ? view.height - edge - y : 0;
  if (moveX || moveY) panBy(moveX, moveY);
}

export function resizePane(width, height) {
  if (width === view.width && height === view.height) return;
  view.x += (width - view.width) / 2;
  view.y += (height - view.height) / 2;
  view.width = width;
  view.height = height;
  if (view.fitted) fit();
  else {
    hold();
    tell("view");
  }
}

/** Take the size of a new image; slices of one volume keep the view. */
export function setImageSize(width, height, keep) {
  view.imageWidth = width;
  view.imageHeight = height;
  if (keep) tell("view");
  else fit();
}
