/** Talks to the server. Waits where it is busy, and where it is not there. */

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

/** Set by the page: told whether the server can be reached. */
export const connection = { tell: (_there) => {} };

/** An error with a line for people. */
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || "The server refused this.");
    this.status = problem.status;
    this.problem = { type: problem.type, detail: this.message };
  }
}

/** fetch that waits until the server is there and has a place. Throws Refused for other errors. */
export async function ask(path, options = {}) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch (error) {
      if (options.signal?.aborted) throw error;
      connection.tell(false);
      await pause(1);
      continue;
    }
    connection.tell(true);
    if (answer.ok) return answer;
    if (answer.status === 429) {
      await pause(Number(answer.headers.get("Retry-After")) || 1);
      if (options.signal?.aborted) throw new DOMException("stopped", "AbortError");
      continue;
    }
    if (answer.status === 401) location.reload();
    const problem = await answer.json().catch(() => ({ status: answer.status }));
    throw new Refused({ status: answer.status, ...problem });
  }
}

export async function start(file, settings, signal) {
  const form = new FormData();
  form.append("file", file, file.name);
  form.append("keep", "true");
  for (const [name, value] of Object.entries(settings)) form.append(name, value);
  return (await ask("/v1/jobs", { method: "POST", body: form, signal })).json();
}

export async function change(id, changes) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(`/v1/jobs/${id}`, { method: "PATCH", headers, body: JSON.stringify(changes) })).json();
}

export const status = async (id) => (await ask(`/v1/jobs/${id}`)).json();
export const stop = (id) => fetch(`/v1/jobs/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
export const picture = async (path) => createImageBitmap(await (await ask(path)).blob());

/** Follows jobs; one connection for all of them, because browsers allow few. */
export class Events {
  constructor(told, again) {
    this.told = told;
    this.again = again;
    this.ids = "";
  }

  follow(ids) {
    const wanted = ids.join("&job=");
    if (wanted === this.ids) return;
    this.ids = wanted;
    this.source?.close();
    this.source = null;
    if (!wanted) return;
    const source = new EventSource(`/v1/events?job=${wanted}`);
    let failed = false;
    source.addEventListener("status", (event) => this.told(JSON.parse(event.data)));
    source.onerror = () => {
      failed = true;
      connection.tell(false);
      if (source.readyState === EventSource.CLOSED && this.source === source) {
        this.ids = "";
        setTimeout(this.again, 1000);
      }
    };
    source.onopen = () => {
      connection.tell(true);
      if (failed) this.again();
      failed = false;
    };
    this.source = source;
  }
}
