"""What watches the outside world."""
