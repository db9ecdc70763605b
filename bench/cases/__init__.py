"""What is timed: Cases, the sides of an --ab, the Protocol."""
