/// The engine's version.
public let engineVersion = "0.1.0"
