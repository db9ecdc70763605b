"""Cases, the Arms of an --ab, Passes and the Protocol."""
