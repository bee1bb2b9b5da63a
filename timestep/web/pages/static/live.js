// Keeps the parts of a page that are marked with `data-live`, and have an id, as the host has them:
// after an event the page is asked for anew, and those of its parts that differ are replaced.
// What a person does in a part meanwhile stays: a part in which something is being typed waits, and
// what is folded out stays so. Of a list that is marked with `data-live-list` the entries are such
// parts, and those that are new are added: a page may show the newest ones only. What is marked with
// `data-keep`, and has an id, stays what a script made of it.
import { writeTimes } from "./times.js";

const PAUSE = 500; // Milliseconds between two times that the page is asked for.
let asked = null;
let isUnderWay = false;
let isWanted = false;

export function follow(path) {
  const told = document.getElementById("connection");
  const source = new EventSource(path);
  source.onopen = () => { told.textContent = "live"; renew(); };
  source.onerror = () => { told.textContent = "not connected: trying again"; };
  for (const kind of ["run", "question", "item"]) source.addEventListener(kind, renew);
  for (const kind of ["model", "item", "run"]) {
    source.addEventListener(kind, (event) => {
      document.dispatchEvent(new CustomEvent(`timestep:${kind}`, { detail: JSON.parse(event.data) }));
    });
  }
  source.addEventListener("end", () => { source.close(); told.textContent = ""; renew(); });
}

export function renew() {
  isWanted = true;
  if (asked === null && !isUnderWay) asked = setTimeout(ask, PAUSE);
}

async function ask() {
  asked = null;
  isUnderWay = true;
  isWanted = false;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) location.reload();
    if (answer.ok) replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // The host is away, as is told; the page is asked for once it is there again.
  } finally {
    isUnderWay = false;
    if (isWanted) renew();
  }
}

function replace(page) {
  // A run that had not begun has parts by now that this page was made without.
  const isWhole = [...page.querySelectorAll("main [data-live][id], main [data-live-list][id]")]
    .every((part) => document.getElementById(part.id) !== null);
  if (!isWhole && typing() === null) location.reload();
  for (const list of document.querySelectorAll("[data-live-list]")) {
    for (const entry of page.getElementById(list.id)?.children ?? []) {
      if (document.getElementById(entry.id) === null) list.append(document.importNode(entry, true));
    }
  }
  for (const old of document.querySelectorAll("[data-live], [data-live-list] > *")) {
    const next = page.getElementById(old.id);
    if (next === null || old.contains(typing())) continue;
    for (const time of next.querySelectorAll("time")) writeTimes(time.parentElement);
    if (next.innerHTML === old.innerHTML) continue;
    for (const open of old.querySelectorAll("details[id]")) {
      const same = next.querySelector(`#${CSS.escape(open.id)}`);
      if (same !== null) same.open = open.open;
    }
    for (const given of old.querySelectorAll("input[id], select[id], textarea[id]")) {
      const same = next.querySelector(`#${CSS.escape(given.id)}`);
      if (same !== null) keep(given, same);
    }
    for (const kept of old.querySelectorAll("[data-keep][id]")) {
      next.querySelector(`#${CSS.escape(kept.id)}`)?.replaceWith(kept);
    }
    const current = old.querySelector("[data-row].current");
    const focused = old.contains(document.activeElement) ? placeOf(document.activeElement) : null;
    old.replaceChildren(...next.childNodes);
    if (current?.id) document.getElementById(current.id)?.classList.add("current");
    focused?.()?.focus({ preventScroll: true });
  }
}

// What finds an element again once its part was replaced: by its id, or inside of what has one, such
// as a row, by where it leads, or by how many like it come before.
function placeOf(element) {
  if (element.id) return () => document.getElementById(element.id);
  const around = element.closest("[id]").id;
  const href = element.getAttribute("href");
  const likes = () => [...(document.getElementById(around)?.querySelectorAll(element.localName) ?? [])];
  const index = likes().indexOf(element);
  return () => likes().find((one) => href !== null && one.getAttribute("href") === href) ?? likes()[index];
}

// What is ticked stays so, unless what it stands for has changed; and so does what was typed.
function keep(given, same) {
  if (given.type === "checkbox" || given.type === "radio") {
    if (given.value === same.value) same.checked = given.checked;
  } else if (given.value !== given.defaultValue) same.value = given.value;
}

function typing() {
  const element = document.activeElement;
  return element?.matches("input:not([type=checkbox], [type=radio]), textarea, select") ? element : null;
}
