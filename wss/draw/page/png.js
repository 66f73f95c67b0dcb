/* Decode PNGs of one channel to their stored values. A canvas would give colours of a palette instead of class indices. */

const SIGNATURE = 0x89504e47;

/** Bytes of base64 text. */
export function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index++) bytes[index] = binary.charCodeAt(index);
  return bytes;
}

async function inflate(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Undo the filter of each row in place (PNG specification, section 9.2) for samples of one byte or less. */
function unfilter(raw, rowBytes, height) {
  let above = new Uint8Array(rowBytes);
  for (let y = 0, at = 0; y < height; y++, at += rowBytes + 1) {
    const filter = raw[at];
    const row = raw.subarray(at + 1, at + 1 + rowBytes);
    if (filter === 1) {
      for (let x = 1; x < rowBytes; x++) row[x] += row[x - 1];
    } else if (filter === 2) {
      for (let x = 0; x < rowBytes; x++) row[x] += above[x];
    } else if (filter === 3) {
      row[0] += above[0] >> 1;
      for (let x = 1; x < rowBytes; x++) row[x] += (row[x - 1] + above[x]) >> 1;
    } else if (filter === 4) {
      row[0] += above[0];
      for (let x = 1; x < rowBytes; x++) {
        const left = row[x - 1];
        const up = above[x];
        const corner = above[x - 1];
        const guess = left + up - corner;
        const fromLeft = Math.abs(guess - left);
        const fromUp = Math.abs(guess - up);
        const fromCorner = Math.abs(guess - corner);
        row[x] += fromLeft <= fromUp && fromLeft <= fromCorner ? left : fromUp <= fromCorner ? up : corner;
      }
    } else if (filter !== 0) {
      throw new Error(`unknown PNG filter ${filter}`);
    }
    above = row;
  }
}

/**
 * Values of an indexed or grey PNG of 1, 2, 4 or 8 bits, as {width, height, values}.
 *
 * Grey values of fewer than 8 bits are returned as they are stored.
 */
export async function decodePng(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 33 || view.getUint32(0) !== SIGNATURE) throw new Error("not a PNG");
  const width = view.getUint32(16);
  const height = view.getUint32(20);
  const [depth, colour, , , interlaced] = bytes.subarray(24, 29);
  if ((colour !== 3 && colour !== 0) || depth > 8 || interlaced) throw new Error("expected a PNG of one 8-bit channel");
  const parts = [];
  for (let at = 8; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at);
    if (view.getUint32(at + 4) === 0x49444154) parts.push(bytes.subarray(at + 8, at + 8 + length)); // IDAT
    at += length + 12;
  }
  const rowBytes = Math.ceil((width * depth) / 8);
  const raw = await inflate(parts);
  if (raw.length < (rowBytes + 1) * height) throw new Error("the PNG ends early");
  unfilter(raw, rowBytes, height);
  const values = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const from = y * (rowBytes + 1) + 1;
    if (depth === 8) {
      values.set(raw.subarray(from, from + width), y * width);
      continue;
    }
    const most = (1 << depth) - 1;
    for (let x = 0; x < width; x++) {
      const bit = x * depth;
      values[y * width + x] = (raw[from + (bit >> 3)] >> (8 - depth - (bit & 7))) & most;
    }
  }
  return { width, height, values };
}
