// Buttons that copy what an element says: `data-copy` is its id. Without a script none is shown.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const element = document.getElementById(button.dataset.copy);
    if (navigator.clipboard === undefined) {
      getSelection().selectAllChildren(element); // Without TLS a browser lets no script copy.
      return;
    }
    await navigator.clipboard.writeText(element.textContent);
    button.textContent = "Copied";
  });
}
