//! One TOML file and the environment become checked settings of each room.
