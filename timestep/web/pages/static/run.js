// What the page of a run does with a script: it shows what its model says while it speaks, and adds
// turns in their place. Without one, links lead to pages with them.
import { writeTimes } from "./times.js";

const MOST = 4000; // Characters that are shown: the newest.
let answer = null;
let attempt = 0;
let said = "";

const show = () => {
  const place = document.getElementById("speaking");
  if (place === null) return;
  place.textContent = said;
  place.hidden = said === "";
};

document.addEventListener("timestep:model", ({ detail }) => {
  // A higher attempt replaces what lower ones said.
  if (detail.response_id !== answer || detail.attempt > attempt) said = "";
  answer = detail.response_id;
  attempt = detail.attempt;
  if (typeof detail.data?.delta === "string") said = (said + detail.data.delta).slice(-MOST);
  show();
});

// What it said is an item now, which the page has.
for (const kind of ["item", "run"]) {
  document.addEventListener(`timestep:${kind}`, () => { said = ""; show(); });
}

document.addEventListener("click", async (event) => {
  const link = event.target.closest(".more a:not([data-whole])");
  if (link === null || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  link.setAttribute("aria-disabled", "true");
  const more = link.closest(".more");
  try {
    const answer = await fetch(link.href, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) throw new Error(`${answer.status}`);
    add(new DOMParser().parseFromString(await answer.text(), "text/html"), more);
  } catch {
    location.assign(link.href);
  }
});

function add(page, more) {
  const turns = document.getElementById("turns");
  const isBefore = more.id === "more-before";
  const found = [...page.getElementById("turns").children].filter((turn) => document.getElementById(turn.id) === null);
  const place = isBefore ? turns.firstElementChild : null;
  const height = document.documentElement.scrollHeight;
  for (const turn of found) {
    for (const time of turn.querySelectorAll("time")) writeTimes(time.parentElement);
    turns.insertBefore(document.importNode(turn, true), place);
  }
  const next = page.getElementById(more.id);
  // What is read stays where it is on the screen.
  if (next === null) more.remove(); else more.replaceChildren(...next.childNodes);
  if (isBefore) scrollBy(0, document.documentElement.scrollHeight - height);
  else more.querySelector("a")?.focus({ preventScroll: true });
}

// A run inside shows its turns once it is unfolded, and those inside of it likewise.
document.addEventListener("toggle", async ({ target }) => {
  if (!target.dataset.load || !target.open) return;
  const answer = await fetch(target.dataset.load, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const turns = [...(page.getElementById("turns")?.children ?? [])];
  for (const turn of turns) {
    // Its turns are no parts of this page, which has others of these names.
    for (const named of [turn, turn.querySelector("h3")]) named?.removeAttribute("id");
    turn.removeAttribute("aria-labelledby");
    for (const time of turn.querySelectorAll("time")) writeTimes(time.parentElement);
  }
  target.querySelector(".loaded").replaceChildren(...turns.map((turn) => document.importNode(turn, true)));
}, true);

// What can be copied has a button for it, where the browser lets a page copy.
document.addEventListener("toggle", ({ target }) => {
  if (!navigator.clipboard || !target.open) return;
  for (const text of target.querySelectorAll("[data-copy]:not([data-copy='has'])")) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "Copy" });
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text.href ?? text.textContent);
      button.textContent = "Copied";
    });
    text.dataset.copy = "has";
    text.after(" ", button);
  }
}, true);
