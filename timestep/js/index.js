export { javascriptStateFromPython } from './conversion.js';
export { ConfigurationError, StateError } from './errors.js';
export { createRunStateStore, DatabaseRunStateStore } from './store.js';
