"""The picture generator: scenes, their captions, and the objects that no caption names."""
