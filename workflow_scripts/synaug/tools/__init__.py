"""What the commands do, without the terminal: functions that a notebook can call."""
