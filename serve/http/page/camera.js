// The camera: short videos of it, one after another, each whole in itself.

const PIECE_MS = 2000;

/** Whether this browser has what is needed; only a page of this machine or of https may use a camera. */
export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia && window.MediaRecorder);
}

/**
 * Films until it is told to stop.
 *
 * `video` shows what is filmed; `piece` is awaited with each piece (a Blob) and when it began, in seconds. What is filmed
 * while the piece before is still asked about is left out, so that answers do not fall behind. Gives the function that
 * stops it.
 */
export async function film(video, piece) {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } }, audio: false });
  const began = performance.now();
  let filming = true;
  video.srcObject = stream;
  video.play();

  function record() {
    return new Promise((resolve, reject) => {
      const from = (performance.now() - began) / 1000;
      const recorder = new MediaRecorder(stream);
      const parts = [];
      recorder.ondataavailable = (event) => parts.push(event.data);
      recorder.onerror = () => reject(new Error("The camera stopped."));
      recorder.onstop = () => resolve([new Blob(parts, { type: recorder.mimeType }), from]);
      recorder.start();
      setTimeout(() => recorder.state === "recording" && recorder.stop(), PIECE_MS);
    });
  }

  const done = (async () => {
    while (filming && stream.active) {
      const [blob, from] = await record();
      if (filming && blob.size) await piece(blob, from);
    }
  })().finally(stop);

  function stop() {
    filming = false;
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  }

  return { stop, done };
}
