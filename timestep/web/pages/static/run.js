// What the page of a run shows besides: what its model says while it speaks.
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
