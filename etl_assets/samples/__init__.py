"""Sample exports of the shipped project."""
