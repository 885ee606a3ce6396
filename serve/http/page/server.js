// What the page asks of the server.

/** The models that there are, and the limits of the server. */
export async function askModels() {
  return await whole(await fetch("/v1/models"));
}

/**
 * Sends a video, and calls `line` with each line of the answer as it comes.
 * Throws an Error that says what is wrong, whatever went wrong.
 */
export async function askTimeline(video, options, signal, line) {
  const response = await send("/v1/timeline", video, options, signal);
  if (!response.ok) await whole(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    text += value ?? "";
    const lines = text.split("\n");
    text = lines.pop();
    for (const each of lines) {
      const document = JSON.parse(each);
      if (document.error) throw new Error(document.error);
      line(document);
    }
    if (done) return;
  }
}

/** Where the model looked in one part of a video. */
export async function askExplanation(video, options) {
  return await whole(await send("/v1/explain", video, options));
}

async function send(path, video, options, signal) {
  try {
    const body = { method: "POST", body: video, headers: { "Content-Type": "application/octet-stream" }, signal };
    return await fetch(`${path}?${new URLSearchParams(options)}`, body);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached, or refused the video before it was sent whole.");
  }
}

async function whole(response) {
  const document = await response.json().catch(() => ({ error: `The server answered with ${response.status}.` }));
  if (response.ok) return document;
  const again = response.headers.get("Retry-After");
  throw new Error(again ? `${document.error} Try again in ${again} seconds.` : document.error);
}
