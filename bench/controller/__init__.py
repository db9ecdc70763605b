"""The controller: starts Workers, verifies their Nets and schedules their turns."""
