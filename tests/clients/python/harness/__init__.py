"""What the tests stand on: a gate with TLS, a fal that does as it is told, pictures, and the client."""
