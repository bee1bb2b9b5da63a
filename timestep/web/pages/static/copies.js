// Gives what can be copied a button for it, where the browser lets a page copy.
export function offerCopies() {
  if (!navigator.clipboard) return;
  document.addEventListener("toggle", ({ target }) => {
    if (!target.open) return;
    for (const text of target.querySelectorAll("[data-copy='']")) {
      text.dataset.copy = "has";
      text.after(" ", button(text));
    }
  }, true);
}

function button(text) {
  const made = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "Copy" });
  made.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text.href ?? text.textContent);
    made.textContent = "Copied";
  });
  return made;
}
