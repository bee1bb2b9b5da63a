// What the page of a run does with a script besides what every page does.
import { offerCopies } from "./copies.js";
import { hear } from "./speaking.js";
import { loadTurns } from "./turns.js";

hear();
loadTurns();
offerCopies();
