"""The report of a run: what was measured, as one self-contained HTML page, a table for the terminal, and figures.

`gather.gather` reads the folders of finished steps, and `gather.write_report` leaves the page, the figures and the table in the
folder of the report. Nothing is imported here, so that drawing a figure costs a worker neither torch nor Ray.
"""
