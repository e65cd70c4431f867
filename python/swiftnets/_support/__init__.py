"""What every room of the house may use, and none is about."""
