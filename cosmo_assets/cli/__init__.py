"""The command line. Only __main__.py imports it; begin at app.py."""
