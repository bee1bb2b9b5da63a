// Copies the command before a button; the style sheet hides the buttons where no script runs.
export function copyCommands() {
  document.addEventListener("click", async ({ target }) => {
    const button = target.closest("[data-copy-before]");
    if (button === null) return;
    const command = button.previousElementSibling;
    if (navigator.clipboard === undefined) {
      getSelection().selectAllChildren(command); // Without TLS a browser lets no script copy.
      return;
    }
    await navigator.clipboard.writeText(command.textContent);
    button.textContent = "Copied";
  });
}
