/** A state that is not there, or that cannot be gone on with here. It stays as it is. */
export class StateError extends Error {
  /**
   * @param {'unknown' | 'corrupt' | 'too_new' | 'foreign'} reason
   * @param {string} message
   * @param {ErrorOptions} [options]
   */
  constructor(reason, message, options) {
    super(message, options);
    this.name = 'StateError';
    this.reason = reason;
  }
}

/** Options, or an installation, that cannot work. */
export class ConfigurationError extends Error {
  /** @param {string} message @param {ErrorOptions} [options] */
  constructor(message, options) {
    super(message, options);
    this.name = 'ConfigurationError';
  }
}
