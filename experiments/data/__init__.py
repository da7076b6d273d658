"""The data that only experiments need: text, dates and a monthly series."""
