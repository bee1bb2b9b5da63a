// Keeps "3 min ago" right while a page is open. The exact time is each element's `datetime`.
const STEPS = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]];

function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const [, size, unit] = STEPS.find(([below]) => seconds < below);
  return `${Math.floor(seconds / size)} ${unit}`;
}

export function writeTimes(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const ahead = (Date.parse(element.dateTime) - Date.now()) / 1000;
    element.textContent = ahead > 0 ? `in ${span(ahead)}` : `${span(-ahead)} ago`;
  }
}

export function keepTimes() {
  writeTimes();
  setInterval(writeTimes, 10_000);
}
