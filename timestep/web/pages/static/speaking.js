// Shows what models say while they speak: of each run that the page follows, its newest answer.
const MOST = 4000; // Characters that are shown of each: the newest.
// What turns a line's direction, or is not seen, is escaped as on the rest of the page.
const UNFIT = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;
const answers = new Map();

function show() {
  const place = document.getElementById("speaking");
  if (place === null) return;
  const said = [...answers.values()].map((answer) => answer.said).filter(Boolean).join("\n\n");
  place.textContent = said.replace(UNFIT, (one) => `\\u${one.codePointAt(0).toString(16).padStart(4, "0")}`);
  place.hidden = place.textContent === "";
}

export function hear() {
  document.addEventListener("timestep:model", ({ detail }) => {
    let answer = answers.get(detail.run_id);
    // A higher attempt replaces what lower ones said.
    if (answer?.id !== detail.response_id || detail.attempt > answer.attempt) {
      answer = { id: detail.response_id, attempt: detail.attempt, said: "" };
      answers.set(detail.run_id, answer);
    }
    if (typeof detail.data?.delta === "string") answer.said = (answer.said + detail.data.delta).slice(-MOST);
    show();
  });
  // What it said is an item now, which the page has.
  for (const kind of ["item", "run"]) {
    document.addEventListener(`timestep:${kind}`, ({ detail }) => {
      answers.delete(detail.run_id);
      show();
    });
  }
}
