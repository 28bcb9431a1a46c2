"""The data in which a law is searched: checked, scaled, and divided into rows for fits and for tests."""
