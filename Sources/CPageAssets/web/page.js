// Keeps the page up to date, filters its table of profiles, and shows a profile's flame graph. Everything else works without it.

const filter = document.getElementById("filter");

/** Hides the rows of recent profiles that do not hold every word of the filter. */
function applyFilter() {
  const table = document.querySelector("#recent tbody");
  if (!table || !filter) return;
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of table.rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    if (!row.hidden) shown += 1;
  }
  const count = document.querySelector("#recent [data-count]");
  if (count) count.textContent = `${shown} of ${table.rows.length} profiles are shown.`;
}

/** Replaces the content of a part, unless it is the same; the focus, the selection and the scroll position stay. */
function replace(part, html) {
  if (part.dataset.seen === html) return;
  const selection = document.getSelection();
  if (selection && !selection.isCollapsed && part.contains(selection.anchorNode)) return;
  part.dataset.seen = html;
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  const scrolled = part.querySelector(".scroll")?.scrollLeft ?? 0;
  part.innerHTML = html;
  if (scrolled) part.querySelector(".scroll").scrollLeft = scrolled;
  if (focused?.id) document.getElementById(focused.id)?.focus({ preventScroll: true });
  else if (focused?.classList.contains("scroll")) part.querySelector(".scroll")?.focus({ preventScroll: true });
}

/** Listens to the gateway's events, which the browser asks for again when the connection has ended. */
function listen(address) {
  const state = document.getElementById("connection");
  const say = (text) => { if (state.textContent !== text) state.textContent = text; };
  const source = new EventSource(address);
  source.onopen = () => say("Live");
  source.onerror = () => {
    say(source.readyState === EventSource.CLOSED ? "Not live: the gateway does not send updates. Reload the page." : "Connecting again");
  };
  for (const part of document.querySelectorAll("[data-live]")) {
    source.addEventListener(part.id, (event) => {
      replace(part, event.data);
      if (part.id === "recent") applyFilter();
    });
  }
}

/** Shows the flame graph of the profile. */
async function showProfile(element) {
  const { showFlameGraph } = await import("./flame.js");
  const load = async (type) => {
    const answer = await fetch(`${element.dataset.json}?sample_type=${type}`);
    const json = await answer.json();
    if (!answer.ok) throw new Error(json.message);
    return json;
  };
  try {
    const json = await load(element.dataset.sampleType);
    showFlameGraph(element, { json, sampleTypes: JSON.parse(element.dataset.sampleTypes), onSampleType: load });
  } catch (error) {
    element.textContent = `The flame graph cannot be shown: ${error.message}`;
  }
}

filter?.addEventListener("input", applyFilter);
if (filter?.form) filter.form.addEventListener("submit", (event) => { event.preventDefault(); applyFilter(); });
if (document.body.dataset.events) listen(document.body.dataset.events);
const flame = document.getElementById("flame");
if (flame) showProfile(flame);
