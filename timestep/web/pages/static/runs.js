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
