//! Who may come in, how often, at what cost.
