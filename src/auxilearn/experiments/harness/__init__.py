"""Running, storing, comparing and showing experiments."""
