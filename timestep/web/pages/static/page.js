// What every page does with a script: it stays as the host has it, and obeys keys.
import { copyCommands } from "./commands.js";
import { follow } from "./live.js";
import { obeyKeys } from "./keys.js";
import { keepTimes } from "./times.js";

copyCommands();
keepTimes();
obeyKeys();
if (document.body.dataset.events) follow(document.body.dataset.events);
