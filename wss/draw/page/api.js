/* Requests to the server. The session cookie goes along by itself; images are named by id only. */

/** The server cannot be reached, or failed for a reason that may pass. */
export class Away extends Error {}

/** The server answered and said no. `status` and `body` are those of its answer. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.error ?? `The server answered with status ${status}.`);
    this.status = status;
    this.body = body ?? {};
  }
}

/** This page's session is not known any more, because the server was started with another token. */
export class Forgotten extends Away {}

/** The server answered that it cannot write to its disk, or has too little memory, which may pass. */
export class Full extends Away {}

const PATIENCE_MS = 30000;

async function request(method, path, body, signal) {
  const options = { method, signal, credentials: "same-origin", headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Away("The server does not answer.");
  }
  if (answer.ok) return answer;
  const text = await answer.text().catch(() => "");
  let parsed = null;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = text ? { error: text.slice(0, 300) } : null;
  }
  if (answer.status === 401 || answer.status === 403) throw new Forgotten(parsed?.error ?? "The session is over.");
  if (answer.status === 507) throw new Full(parsed?.error ?? "The disk of the server is full.");
  if (answer.status >= 502) throw new Away(parsed?.error ?? "The server does not answer.");
  throw new Refused(answer.status, parsed);
}

/** JSON in, JSON out. Raises Away, Forgotten or Refused. */
export async function call(method, path, body, signal = AbortSignal.timeout(PATIENCE_MS)) {
  const answer = await request(method, path, body, signal).catch((error) => {
    throw error.name === "TimeoutError" ? new Away("The server takes too long to answer.") : error;
  });
  try {
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Away("The answer of the server broke off.");
  }
}

/** Send JSON and yield each line of the answer as soon as it has come. */
export async function* lines(path, body, signal) {
  const answer = await request("POST", path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const part = await reader.read().catch((error) => {
        throw signal?.aborted ? error : new Away("The answer of the server broke off.");
      });
      if (part.done) break;
      const pieces = (rest + part.value).split("\n");
      rest = pieces.pop();
      for (const piece of pieces) if (piece.trim()) yield JSON.parse(piece);
    }
    if (rest.trim()) yield JSON.parse(rest);
  } finally {
    reader.cancel().catch(() => {}); // nobody reads the rest
  }
}

/** Send JSON and get a file: its bytes and its name. */
export async function download(path, body) {
  const answer = await request("POST", path, body);
  const header = answer.headers.get("Content-Disposition") ?? "";
  const name = /filename="?([^";]+)"?/.exec(header)?.[1] ?? "export";
  return { blob: await answer.blob(), name };
}

/** A picture that the server sends. */
export async function bitmap(path, signal) {
  const answer = await request("GET", path, undefined, signal);
  return createImageBitmap(await answer.blob());
}

export const imagePath = (id, rest) => `/api/images/${encodeURIComponent(id)}/${rest}`;
