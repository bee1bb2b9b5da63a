// Completes a filter of the list of runs while it is being typed, with what the host suggests.
const PAUSE = 200; // Milliseconds without a key, after which the host is asked.

for (const input of document.querySelectorAll("[data-complete]")) {
  let waiting = null;
  const ask = async () => {
    const asked = input.value;
    const path = `/complete/${input.dataset.complete}?text=${encodeURIComponent(asked)}`;
    const answer = await fetch(path, { headers: { Accept: "text/html" } });
    if (!answer.ok || input.value !== asked) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    input.list.replaceChildren(...page.querySelectorAll("option"));
  };
  const later = () => { clearTimeout(waiting); waiting = setTimeout(ask, PAUSE); };
  input.addEventListener("input", later);
  input.addEventListener("focus", () => { if (input.list.options.length === 0) later(); });
}

// One tick for all entries of the page; it tells, too, whether they are ticked.
const entries = (all) => [...all.form.querySelectorAll(`[${all.dataset.choose}]`)];
function tell() {
  for (const all of document.querySelectorAll("[data-choose]")) {
    const ticked = entries(all).filter((one) => one.checked).length;
    all.checked = ticked > 0 && ticked === entries(all).length;
    all.indeterminate = ticked > 0 && !all.checked;
  }
}
document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-choose]")) for (const one of entries(target)) one.checked = target.checked;
  tell();
});
new MutationObserver(tell).observe(document.getElementById("runs"), { childList: true });
tell();
