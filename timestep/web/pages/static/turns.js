// Adds turns in their place that a page of a run does not have yet: earlier and later ones, and those
// of runs inside. Without it, links lead to pages with them.
import { writeTimes } from "./times.js";

export function loadTurns() {
  document.addEventListener("click", more);
  document.addEventListener("toggle", inside, true);
}

async function asked(path) {
  const answer = await fetch(path, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) throw new Error(`${answer.status}`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const turns = [...(page.getElementById("turns")?.children ?? [])];
  for (const turn of turns) for (const time of turn.querySelectorAll("time")) writeTimes(time.parentElement);
  return { page, turns };
}

async function more(event) {
  const link = event.target.closest(".more a:not([data-whole])");
  if (link === null || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  try {
    add(link.closest(".more"), await asked(link.href));
  } catch {
    location.assign(link.href);
  }
}

function add(link, { page, turns }) {
  const list = document.getElementById("turns");
  const isBefore = link.id === "more-before";
  const place = isBefore ? list.firstElementChild : null;
  const height = document.documentElement.scrollHeight;
  for (const turn of turns) {
    if (document.getElementById(turn.id) === null) list.insertBefore(document.importNode(turn, true), place);
  }
  const next = page.getElementById(link.id);
  if (next === null) link.remove(); else link.replaceChildren(...next.childNodes);
  // What is read stays where it is on the screen.
  if (isBefore) scrollBy(0, document.documentElement.scrollHeight - height);
  else link.querySelector("a")?.focus({ preventScroll: true });
}

async function inside({ target }) {
  if (!target.dataset.load || !target.open) return;
  try {
    const { page, turns } = await asked(target.dataset.load);
    for (const turn of turns) {
      // They are no parts of this page, which has others of these names.
      for (const named of [turn, turn.querySelector("h3")]) named?.removeAttribute("id");
      turn.removeAttribute("aria-labelledby");
    }
    const later = page.querySelector("#more-after a");
    const shown = later === null ? turns : [...turns, later];
    target.querySelector(".loaded").replaceChildren(...shown.map((one) => document.importNode(one, true)));
  } catch {
    // There is a link to its page.
  }
}
