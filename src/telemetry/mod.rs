//! Metrics, and the one log line per request.
