// Draws a profile as a flame graph: showFlameGraph(element, { json, sampleTypes, onSampleType }).
//
// `json` is what the gateway's profile reader makes: names, and three numbers for each place: its depth, its name, what it counts.
// Only frames that are wider than a pixel become elements, so 20,000 places are no load.

const colors = 8;

/** A value with its unit, in at most four digits: 1.25 s, 3.5 MiB, 1,204 samples. */
export function formatValue(value, unit) {
  const scales = {
    nanoseconds: [["s", 1e9], ["ms", 1e6], ["µs", 1e3], ["ns", 1]],
    microseconds: [["s", 1e6], ["ms", 1e3], ["µs", 1]],
    milliseconds: [["s", 1e3], ["ms", 1]],
    bytes: [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10], ["B", 1]],
  }[unit];
  if (!scales) return value.toLocaleString("en-US") + (unit && unit !== "count" ? ` ${unit}` : "");
  const [name, scale] = scales.find(([, size]) => Math.abs(value) >= size) ?? scales[scales.length - 1];
  const scaled = value / scale;
  const digits = Math.abs(scaled) >= 100 ? 0 : Math.abs(scaled) >= 10 ? 1 : 2;
  return `${scaled.toLocaleString("en-US", { maximumFractionDigits: scale === 1 ? 0 : digits })} ${name}`;
}

function formatShare(part, whole) {
  return `${(whole > 0 ? (part / whole) * 100 : 0).toFixed(1)} %`;
}

/** The places of a graph as arrays: a place comes before those below it, which end before `end`. */
class Places {
  constructor(json) {
    const count = Math.floor(json.nodes.length / 3);
    this.count = count;
    this.unit = json.unit;
    this.type = json.type;
    this.truncated = json.truncated;
    this.depth = new Int32Array(count);
    this.name = new Array(count);
    this.total = new Float64Array(count);
    this.self = new Float64Array(count);
    this.start = new Float64Array(count);
    this.parent = new Int32Array(count).fill(-1);
    this.end = new Int32Array(count).fill(count);
    const path = [];
    const used = new Float64Array(count);
    for (let place = 0; place < count; place += 1) {
      const depth = json.nodes[place * 3];
      this.depth[place] = depth;
      this.name[place] = json.names[json.nodes[place * 3 + 1]];
      this.total[place] = json.nodes[place * 3 + 2];
      while (path.length > depth) this.end[path.pop()] = place;
      if (depth > 0) {
        const parent = path[depth - 1];
        this.parent[place] = parent;
        this.start[place] = this.start[parent] + used[parent];
        used[parent] += this.total[place];
      }
      path.push(place);
    }
    for (let place = 0; place < count; place += 1) this.self[place] = Math.max(0, this.total[place] - used[place]);
  }

  isInside(place, outer) {
    return place >= outer && place < this.end[outer];
  }

  /** The stacks as text: names from the root to the leaf, a space, the value; as much as the graph has of them. */
  folded() {
    const lines = [];
    const path = [];
    for (let place = 1; place < this.count; place += 1) {
      path.length = this.depth[place] - 1;
      path.push(this.name[place].replaceAll(";", ","));
      if (this.self[place] > 0) lines.push(`${path.join(";")} ${this.self[place]}`);
    }
    return lines.join("\n") + (lines.length ? "\n" : "");
  }
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** One of the colours, the same for all functions of a package. */
function colorOf(name) {
  if (name === "all" || name === "(other)") return "flame-plain";
  const slash = name.lastIndexOf("/");
  const end = name.slice(slash + 1).search(/[.:( ]/);
  const group = end < 0 ? name : name.slice(0, slash + 1 + end);
  let hash = 0;
  for (const character of group) hash = (hash * 31 + character.codePointAt(0)) | 0;
  return `flame-color-${Math.abs(hash) % colors}`;
}

class FlameGraph {
  constructor(element, { json, sampleTypes = [], onSampleType }) {
    this.onSampleType = onSampleType;
    this.places = new Places(json);
    this.zoom = 0;
    this.active = 0;
    this.query = "";
    this.isFlame = false;
    this.elements = new Map();
    this.root = make("section", "flame");
    this.root.setAttribute("aria-label", "Flame graph");
    this.root.append(this.makeBar(sampleTypes), this.makeCopy(), this.makeStatus(), this.makeTree());
    element.replaceChildren(this.root);
    this.draw();
    this.observer = new ResizeObserver(() => this.resized());
    this.observer.observe(this.tree);
  }

  // Building

  makeBar(sampleTypes) {
    const bar = make("div", "flame-bar");
    if (sampleTypes.length > 0) {
      this.select = make("select", "flame-type");
      sampleTypes.forEach((type, index) => {
        const name = typeof type === "string" ? type : type.name;
        const option = make("option", "", name);
        option.value = String(index);
        option.selected = name === this.places.type;
        this.select.append(option);
      });
      this.select.addEventListener("change", () => this.chooseType(Number(this.select.value)));
      bar.append(this.labelled("Sample type", this.select));
    }
    this.search = make("input", "flame-search");
    this.search.type = "search";
    this.search.autocomplete = "off";
    this.search.spellcheck = false;
    for (const event of ["input", "change"]) this.search.addEventListener(event, () => this.find(this.search.value));
    this.matched = make("output", "flame-matched");
    this.matched.setAttribute("aria-live", "polite");
    this.orientation = this.button("Flame", "flame-orientation", () => this.turn());
    this.orientation.title = "Roots at the bottom instead of at the top";
    this.orientation.setAttribute("aria-pressed", "false");
    this.reset = this.button("Reset zoom", "flame-reset", () => this.zoomTo(0));
    this.copyButton = this.button("Copy as folded", "flame-copy", () => this.copy());
    bar.append(this.labelled("Search", this.search), this.orientation, this.reset, this.copyButton, this.matched);
    return bar;
  }

  labelled(text, control) {
    const label = make("label", "", text);
    label.append(control);
    return label;
  }

  button(text, className, action) {
    const button = make("button", className, text);
    button.type = "button";
    button.addEventListener("click", action);
    return button;
  }

  makeCopy() {
    this.text = make("textarea", "flame-text");
    this.text.readOnly = true;
    this.text.hidden = true;
    this.text.rows = 6;
    this.text.setAttribute("aria-label", "Stacks as folded text");
    return this.text;
  }

  makeStatus() {
    this.details = make("p", "flame-details");
    this.details.setAttribute("role", "status");
    return this.details;
  }

  makeTree() {
    this.tree = make("div", "flame-graph");
    this.tree.setAttribute("role", "tree");
    this.tree.addEventListener("click", (event) => {
      const place = this.placeOf(event.target);
      if (place !== null) this.zoomTo(place);
    });
    this.tree.addEventListener("pointerover", (event) => {
      const place = this.placeOf(event.target);
      if (place === null) return;
      event.target.title = this.describe(place);
      this.show(place);
    });
    this.tree.addEventListener("focusin", (event) => {
      const place = this.placeOf(event.target);
      if (place !== null) this.activate(place);
    });
    this.tree.addEventListener("keydown", (event) => this.press(event));
    return this.tree;
  }

  placeOf(target) {
    const place = target.dataset?.place;
    return place === undefined ? null : Number(place);
  }

  // Drawing

  resized() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      if (!this.root.isConnected) this.observer.disconnect();
      else if (this.tree.clientWidth !== this.width) this.draw();
    });
  }

  /** The places to draw: the way to the zoomed one, and what is below it and wide enough. */
  visible() {
    const { places, zoom } = this;
    const shown = [];
    for (let place = places.parent[zoom]; place >= 0; place = places.parent[place]) shown.unshift(place);
    const least = places.total[zoom] / Math.max(1, this.width);
    for (let place = zoom; place < places.end[zoom]; ) {
      const isWide = place === zoom || places.total[place] >= least;
      if (isWide) shown.push(place);
      place = isWide ? place + 1 : places.end[place];
    }
    return shown;
  }

  draw() {
    const { places, zoom } = this;
    this.width = this.tree.clientWidth;
    const shown = this.visible();
    const rows = shown.reduce((most, place) => Math.max(most, places.depth[place] + 1), 1);
    const hadFocus = this.tree.contains(document.activeElement);
    const before = this.elements;
    this.elements = new Map();
    if (!shown.includes(this.active)) this.active = zoom;
    const row = parseFloat(getComputedStyle(this.tree).getPropertyValue("--flame-row")) || 20;
    const whole = places.total[zoom];
    const frames = shown.map((place) => {
      const isAbove = places.depth[place] < places.depth[zoom];
      const left = isAbove || whole <= 0 ? 0 : (places.start[place] - places.start[zoom]) / whole;
      const share = isAbove || place === zoom || whole <= 0 ? 1 : places.total[place] / whole;
      const line = this.isFlame ? rows - 1 - places.depth[place] : places.depth[place];
      const frame = before.get(place) ?? this.makeFrame(place);
      frame.className = `flame-frame ${colorOf(places.name[place])}${isAbove ? " flame-above" : ""}`;
      frame.firstChild.hidden = share * this.width <= 28;
      frame.style.left = `${left * 100}%`;
      frame.style.width = `${share * 100}%`;
      frame.style.top = `${line * row}px`;
      this.elements.set(place, frame);
      return frame;
    });
    this.tree.style.height = `${rows * row}px`;
    this.tree.setAttribute("aria-label", `Flame graph of ${places.type}, ${formatValue(places.total[0], places.unit)} in all`);
    // A new size of the window changes no frame, so what is there stays.
    const isSame = frames.length === this.tree.children.length && frames.every((frame, index) => frame === this.tree.children[index]);
    if (!isSame) this.tree.replaceChildren(...frames);
    this.reset.disabled = zoom === 0;
    this.mark();
    this.activate(this.active);
    if (hadFocus && !isSame) this.elements.get(this.active)?.focus();
  }

  makeFrame(place) {
    const frame = make("div");
    frame.setAttribute("role", "treeitem");
    frame.setAttribute("aria-level", String(this.places.depth[place] + 1));
    frame.setAttribute("aria-label", this.describe(place));
    frame.setAttribute("aria-selected", "false");
    frame.tabIndex = -1;
    frame.dataset.place = String(place);
    frame.append(make("span", "flame-name", this.places.name[place]));
    return frame;
  }

  describe(place) {
    const { places } = this;
    const total = `total ${formatValue(places.total[place], places.unit)} (${formatShare(places.total[place], places.total[0])})`;
    const self = `self ${formatValue(places.self[place], places.unit)} (${formatShare(places.self[place], places.total[0])})`;
    return `${places.name[place]}: ${total}, ${self}`;
  }

  show(place) {
    const more = this.places.truncated && place === 0 ? ". The smallest of each caller are gathered as (other)" : "";
    this.details.textContent = this.describe(place) + more;
  }

  /** Makes a place the one that the keyboard starts from. */
  activate(place) {
    const before = this.elements.get(this.active);
    if (before) {
      before.tabIndex = -1;
      before.setAttribute("aria-selected", "false");
    }
    this.active = place;
    const frame = this.elements.get(place);
    if (frame) {
      frame.tabIndex = 0;
      frame.setAttribute("aria-selected", "true");
    }
    this.show(place);
  }

  // Search

  find(query) {
    this.query = query.trim().toLowerCase();
    this.mark();
  }

  mark() {
    const { places, query } = this;
    this.tree.classList.toggle("flame-searching", query !== "");
    for (const [place, frame] of this.elements) {
      frame.classList.toggle("flame-match", query !== "" && places.name[place].toLowerCase().includes(query));
    }
    if (query === "") {
      this.matched.textContent = "";
      return;
    }
    let sum = 0;
    for (let place = 0; place < places.count; ) {
      const isMatch = places.name[place].toLowerCase().includes(query);
      if (isMatch) sum += places.total[place];
      place = isMatch ? places.end[place] : place + 1;
    }
    this.matched.textContent = `matched ${formatShare(sum, places.total[0])}`;
  }

  // Actions

  zoomTo(place) {
    this.zoom = place;
    this.activate(place);
    this.draw();
  }

  turn() {
    this.isFlame = !this.isFlame;
    this.orientation.setAttribute("aria-pressed", String(this.isFlame));
    this.draw();
  }

  press(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const inwards = this.isFlame ? "ArrowUp" : "ArrowDown";
    const outwards = this.isFlame ? "ArrowDown" : "ArrowUp";
    switch (event.key) {
      case inwards: this.move(this.neighbour((place) => this.places.parent[place] === this.active)); break;
      case outwards: this.move(this.places.parent[this.active]); break;
      case "ArrowRight": this.move(this.neighbour((place) => place > this.active && this.isBeside(place))); break;
      case "ArrowLeft": this.move(this.neighbour((place) => place < this.active && this.isBeside(place), true)); break;
      case "Enter":
      case " ": this.zoomTo(this.active); break;
      case "Escape":
      case "Home": this.zoomTo(0); break;
      default: return;
    }
    event.preventDefault();
  }

  isBeside(place) {
    return this.places.depth[place] === this.places.depth[this.active];
  }

  /** The first, or the last, of the drawn places that fits. */
  neighbour(fits, isLast = false) {
    const found = [...this.elements.keys()].filter(fits);
    return found.length === 0 ? -1 : found[isLast ? found.length - 1 : 0];
  }

  move(place) {
    const frame = this.elements.get(place);
    if (!frame) return;
    frame.focus();
    frame.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  async chooseType(index) {
    try {
      const json = await this.onSampleType?.(index);
      if (!json || Number(this.select.value) !== index || !this.root.isConnected) return;
      this.places = new Places(json);
      this.elements.clear();
      this.zoom = 0;
      this.active = 0;
      this.text.hidden = true;
      this.draw();
    } catch (error) {
      this.details.textContent = `The sample type cannot be shown: ${error.message}`;
    }
  }

  async copy() {
    const text = this.places.folded();
    try {
      await navigator.clipboard.writeText(text);
      this.text.hidden = true;
      this.details.textContent = "The stacks are in the clipboard.";
    } catch {
      // Without https, or without leave, there is no clipboard: the text is shown and selected.
      this.text.value = text;
      this.text.hidden = false;
      this.text.focus();
      this.text.select();
      this.details.textContent = "The stacks are selected: copy them.";
    }
  }
}

/**
 * Draws a flame graph in `element`, whose content is replaced.
 *
 * `json` is the parsed answer of the gateway, `sampleTypes` a list of names or of objects with a name. `onSampleType(index)` is called when
 * another one is chosen; it may return the JSON of that one, or a promise of it, which is drawn then.
 */
export function showFlameGraph(element, options) {
  new FlameGraph(element, options);
}
