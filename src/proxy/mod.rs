//! Turns a browser's proxy call into a plain fal call. It never sees the key.
