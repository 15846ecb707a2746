"""Tests of the pocket models."""
