"""The controller: starts Workers, proves them, and has them take turns."""
