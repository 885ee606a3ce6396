// The line of labels under the video: a button for each part, as wide as it is long.

/** The best label of some predictions, and how it is said. */
export function best(predictions) {
  const { label, score, value } = predictions[0];
  return { label, said: score === undefined ? String(Number(value.toPrecision(4))) : percent(score) };
}

export function percent(score) {
  return `${(100 * score).toFixed(score < 0.0995 ? 1 : 0)} %`;
}

export function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = (seconds - 60 * minutes).toFixed(1);
  return `${minutes}:${rest.padStart(4, "0")}`;
}

// The same label has the same colour everywhere; that it differs from others is said by its text.
function hue(label) {
  let sum = 0;
  for (const letter of label) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}

/** A line in a list (#parts) with a head (#head). `choose` is called with a part when it is chosen. */
export class Line {
  constructor(list, head, choose) {
    this.list = list;
    this.head = head;
    this.choose = choose;
    this.parts = [];
    list.addEventListener("keydown", (event) => this.#move(event));
  }

  clear() {
    this.parts = [];
    this.list.replaceChildren();
    this.head.hidden = true;
  }

  /** Makes room for parts that are not known yet. */
  expect(count) {
    for (let number = 0; number < count; number++) {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "waits";
      button.disabled = true;
      button.textContent = "…";
      item.append(button);
      this.list.append(item);
    }
  }

  /** Puts in a part: { from, to, predictions, ... }. The times of a file that has none are null. */
  add(part) {
    const number = this.parts.length;
    this.parts.push(part);
    if (this.list.children.length <= number) this.expect(1);
    const item = this.list.children[number];
    const { label, said } = best(part.predictions);
    const button = document.createElement("button");
    button.type = "button";
    button.tabIndex = number === 0 ? 0 : -1;
    button.style.setProperty("--label", `hsl(${hue(label)} 65% 50%)`);
    const timed = part.from !== null;
    const when = timed ? `${clock(part.from)} to ${clock(part.to)}` : `Part ${number + 1}`;
    button.setAttribute("aria-label", `${when}: ${label}, ${said}`);
    button.title = `${label}, ${said}`;
    button.append(span("what", label), span("when", timed ? `${clock(part.from)} · ${said}` : said));
    button.addEventListener("click", () => this.select(number, true));
    item.style.setProperty("flex", `${timed ? Math.max(part.to - part.from, 0.1) : 1} 1 0`);
    item.replaceChildren(button);
  }

  /** Marks a part as the one that is shown. */
  select(number, chosen = false) {
    this.buttons().forEach((button, each) => {
      button.setAttribute("aria-current", String(each === number));
      button.tabIndex = each === number ? 0 : -1;
    });
    this.choose(number, this.parts[number], chosen);
  }

  /** Moves the head to a time of the video, and gives the part that it is in. */
  show(seconds) {
    const number = this.parts.findLastIndex((part) => part.from !== null && part.from <= seconds);
    this.head.hidden = number < 0;
    if (number < 0) return number;
    const { from, to } = this.parts[number];
    const item = this.list.children[number];
    const share = Math.min((seconds - from) / Math.max(to - from, 1e-6), 1);
    this.head.style.setProperty("left", `${item.offsetLeft + share * item.offsetWidth}px`);
    return number;
  }

  buttons() {
    return [...this.list.querySelectorAll("button:not(.waits)")];
  }

  #move(event) {
    const buttons = this.buttons();
    const here = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (here < 0 || to === undefined || !buttons[to]) return;
    event.preventDefault();
    buttons[to].focus();
    this.select(to, true);
  }
}

export function span(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}
