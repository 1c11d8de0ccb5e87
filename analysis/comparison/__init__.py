"""Two traces, or two periods of one, side by side: what changed, how much, and whether it is more than chance."""
