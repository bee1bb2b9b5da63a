// Lets a page be used by keys: the entries are those marked with `data-row`.
const TYPED = "input:not([type=checkbox]), textarea, select, [contenteditable]";
const isTyping = (element) => element.closest(TYPED) !== null;

export function obeyKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    const act = ACTS[event.key];
    if (act?.() === true) event.preventDefault();
  });
}

const rows = () => [...document.querySelectorAll("[data-row]")];
const current = () => document.querySelector("[data-row].current");

function move(by) {
  const all = rows();
  if (all.length === 0) return false;
  const at = all.indexOf(current());
  const next = all[Math.min(Math.max(at === -1 ? (by > 0 ? 0 : all.length - 1) : at + by, 0), all.length - 1)];
  current()?.classList.remove("current");
  next.classList.add("current");
  (next.querySelector("a, summary") ?? next.querySelector("button, input") ?? next).focus();
  next.scrollIntoView({ block: "nearest" });
  return true;
}

function open() {
  // A link or a button that has the focus does by itself what Enter does.
  if (document.activeElement?.matches("a, button, summary")) return false;
  current()?.querySelector("a, summary")?.click();
  return current() !== null;
}

function focusOn(selector) {
  const found = document.querySelector(selector);
  found?.focus();
  return found !== null;
}

// `a` and `r` lead to what decides, and press nothing: a key that slips must not approve.
// What is of no entry, such as a run's way to its questions, is there from each of them.
const decide = (which) =>
  (current() ?? document).querySelector(`[data-key~="${which}"]`) ??
  document.querySelector(`[data-key~="${which}"]:not([data-row] *)`);
const ACTS = {
  j: () => move(1),
  k: () => move(-1),
  Enter: open,
  "/": () => focusOn("[type=search]"),
  a: () => { decide("a")?.focus(); return decide("a") !== null; },
  r: () => { decide("r")?.focus(); return decide("r") !== null; },
  "?": () => { document.getElementById("help").showModal(); return true; },
};
