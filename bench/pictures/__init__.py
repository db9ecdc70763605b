"""Labeled pictures: folders of them, a drawn set, and the one way from a file to pixels."""
