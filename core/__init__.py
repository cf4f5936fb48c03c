"""What everything else stands on: errors, ids, clock, settings, eras. Nothing else moves in."""
